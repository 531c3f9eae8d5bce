# MQTT-Handler. `make demo` shows it at work, `make test` proves it.

CARGO ?= cargo
MINUTES ?= 10
DEMO_SECONDS ?=

# What the build and the tests need, as "command or file:Debian package".
NEEDED = cc:gcc make:make cmake:cmake pkg-config:pkg-config \
	redis-server:redis-server mosquitto:mosquitto mosquitto_passwd:mosquitto \
	mosquitto_pub:mosquitto-clients \
	/usr/include/openssl/ssl.h:libssl-dev openssl:openssl docker-compose:docker-compose

.PHONY: help setup build test lint demo soak bench image arm clean

help:
	@echo "make demo             the service at work, until Ctrl-C (DEMO_SECONDS=10 for so long)"
	@echo "make test             all tests, on servers of their own"
	@echo "make lint             format and lints, as CI has them"
	@echo "make soak MINUTES=60  random faults for so long, and the ledger (SEED=… repeats one)"
	@echo "make bench            speed, CPU and memory beside the limits of the same run (ROWS=100000; PART=drain)"
	@echo "make build            the release binary"
	@echo "make image            the image, built and tried (BASES=local without an image registry)"
	@echo "make arm              64 and 32 bit ARM, cross-compiled and tried under an emulator"

# Installs what is missing where there is apt-get, and says what is missing elsewhere.
setup:
	@command -v $(CARGO) > /dev/null || { \
		echo "cargo is missing: install Rust 1.85 or newer (https://rustup.rs)"; exit 1; }
	@missing=""; \
	for need in $(NEEDED); do \
		thing=$${need%%:*}; package=$${need##*:}; \
		PATH="$$PATH:/usr/sbin:/sbin" command -v "$$thing" > /dev/null || [ -e "$$thing" ] \
			|| case " $$missing " in *" $$package "*) ;; *) missing="$$missing $$package" ;; esac; \
	done; \
	[ -z "$$missing" ] && exit 0; \
	if ! command -v apt-get > /dev/null; then \
		echo "missing, under their Debian names:$$missing"; \
		echo "install them with the package manager of this system and try again"; exit 1; \
	fi; \
	sudo=""; \
	if [ "$$(id -u)" != 0 ]; then \
		command -v sudo > /dev/null || { echo "missing packages:$$missing (root or sudo is needed to install them)"; exit 1; }; \
		sudo="sudo"; \
	fi; \
	echo "installing:$$missing"; \
	$$sudo apt-get update -qq \
		&& $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing > /dev/null

build: setup
	$(CARGO) build --release --locked

test: setup
	$(CARGO) test --locked

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

demo: setup
	@echo "building (the first time takes a few minutes) …"
	@$(CARGO) test --quiet --locked --test demo --no-run
	@trap '' INT; DEMO_SECONDS=$(DEMO_SECONDS) $(CARGO) test --quiet --locked --test demo

soak: setup
	MINUTES=$(MINUTES) $(CARGO) test --release --locked --test soak

bench: setup
	$(CARGO) bench --locked --bench whole

image: setup
	CARGO="$(CARGO)" .ci/image

arm: setup
	CARGO="$(CARGO)" .ci/arm

clean:
	$(CARGO) clean
