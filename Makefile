# MQTT-Handler. `make demo` shows it at work, `make test` proves it.

CARGO ?= cargo
MINUTES ?= 10
LOSSES ?= 300
DEMO_SECONDS ?=
DENY = 0.18.3

# What the build and the tests need, as "command or file:Debian package".
NEEDED = cc:gcc make:make cmake:cmake pkg-config:pkg-config \
	redis-server:redis-server mosquitto:mosquitto mosquitto_passwd:mosquitto \
	mosquitto_pub:mosquitto-clients python3:python3 g++:g++ \
	/usr/include/openssl/ssl.h:libssl-dev openssl:openssl docker-compose:docker-compose \
	/usr/lib/*/libnss_wrapper.so:libnss-wrapper

# What images and cross-compiled binaries need besides; buildah where there is no Docker engine.
image arm dist: NEEDED += debootstrap:debootstrap qemu-aarch64-static:qemu-user-static objdump:binutils \
	$(shell docker info > /dev/null 2>&1 || echo buildah:buildah)

.PHONY: help setup build test simulate lint deny demo soak fuzz mutants asan bench pictures matrix image arm dist clean

help:
	@echo "make demo             the promise, to watch, in a minute (DEMO_SECONDS=20 for a shorter one)"
	@echo "make test             all tests, on servers of their own"
	@echo "make simulate         schedules of faults in a world in memory (SEEDS=1000000 FIRST=1; SEED=… repeats one with its trace)"
	@echo "make lint             format and lints, as CI has them"
	@echo "make deny             licences, sources and duplicates of what is linked, with cargo-deny"
	@echo "make soak MINUTES=60  random faults for so long, and the ledger (SEED=… repeats one)"
	@echo "make fuzz MINUTES=30  anything that a broker may send against the gate, with a nightly compiler"
	@echo "make mutants          mistakes put into bridge and link, which the tests must notice (FILE=bridge/cursor.rs, SEEDS=2000)"
	@echo "make asan             a hostile broker against the C library with AddressSanitizer"
	@echo "make bench            speed, CPU and memory beside the limits of the same run (ROWS=100000; PART=drain);"
	@echo "                      PEER=\"command …\" drains in turn with another program that takes the same app.conf"
	@echo "make pictures         docs/pictures, drawn from real runs (PART=demo; SERIES=… a soak that has run)"
	@echo "make matrix           every broker and every Redis that the registries carry (ONLY=rabbitmq,valkey)"
	@echo "make build            the release binary"
	@echo "make image            the image, built and tried (BASES=local without an image registry)"
	@echo "make arm              64 and 32 bit ARM, cross-compiled and tried under an emulator"
	@echo "make dist             all that a device needs without a compiler, and archives, in target/dist (BASES=local, as above)"

# Installs what is missing where there is apt-get, and says what is missing elsewhere.
setup:
	@command -v $(CARGO) > /dev/null || { \
		echo "cargo is missing: install Rust 1.85 or newer (https://rustup.rs)"; exit 1; }
	@missing=""; \
	for need in $(NEEDED); do \
		thing=$${need%%:*}; package=$${need##*:}; \
		PATH="$$PATH:/usr/sbin:/sbin" command -v "$$thing" > /dev/null || ls $$thing > /dev/null 2>&1 \
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

# Most of a test is waiting for its servers: more of them than there are cores.
test: setup
	RUST_TEST_THREADS=$(or $(RUST_TEST_THREADS),6) $(CARGO) test --locked --no-fail-fast

simulate:
	SEED=$(SEED) SEEDS=$(or $(SEEDS),20000) FIRST=$(FIRST) $(CARGO) test --release --locked --test simulation every -- --nocapture

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

# Advisories change without this repository and need their database: cargo deny check advisories.
deny:
	@command -v cargo-deny > /dev/null || $(CARGO) install --quiet --locked cargo-deny@$(DENY)
	$(CARGO) deny --locked check licenses sources bans

demo: setup
	@echo "building (the first time takes a few minutes) …"
	@$(CARGO) test --quiet --locked --test demo --no-run
	@trap '' INT; DEMO_SECONDS=$(DEMO_SECONDS) $(CARGO) test --quiet --locked --test demo

soak: setup
	MINUTES=$(MINUTES) $(CARGO) test --release --locked --test soak

# The corpus stays in tests/fuzz/corpus; what was found new goes to tests/fuzz/target and is not kept.
fuzz: setup
	@command -v cargo-fuzz > /dev/null || $(CARGO) install cargo-fuzz --locked
	@rustup toolchain list | grep -q nightly || rustup toolchain install nightly --profile minimal
	@mkdir -p tests/fuzz/target/found
	cd tests/fuzz && $(CARGO) +nightly fuzz run --fuzz-dir . gate target/found corpus/gate -- \
		-max_total_time=$$(($(MINUTES) * 60)) -max_len=4096 -print_final_stats=1

# The unit tests first, and the simulation where they have noticed nothing. What nothing has noticed is
# printed, and stays in target/mutants/mutants.out/missed.txt; it is to be less than 5 %.
mutants: setup
	@command -v cargo-mutants > /dev/null || $(CARGO) install cargo-mutants --locked
	@mkdir -p target/mutants
	CARGO_TARGET_DIR="$(CURDIR)/target/mutants/build" CARGO_PROFILE_DEV_DEBUG=0 SEEDS=$(or $(SEEDS),2000) \
		$(CARGO) mutants --output target/mutants --cap-lints true -C=--lib -C=--test=simulation \
		$(if $(FILE),--file 'src/$(FILE)',$(foreach room,bridge link,--file 'src/$(room).rs' --file 'src/$(room)/**')) \
		|| case $$? in 2 | 3) ;; *) exit 1 ;; esac

# Only the C library is instrumented: it is what could break. Any report ends the process, and
# with it the test. The runtime has to be the first of all libraries, which takes a linker of our own.
asan: setup
	@mkdir -p target/asan
	@printf '#!/bin/sh\nexec cc -Wl,--no-as-needed -lasan "$$@"\n' > target/asan/linker
	@chmod +x target/asan/linker
	host=$$(rustc -vV | sed -n 's/^host: //p'); \
	CFLAGS="-fsanitize=address -fno-omit-frame-pointer -g" RUSTFLAGS="-Clinker=$(CURDIR)/target/asan/linker" \
	ASAN_OPTIONS=detect_leaks=0 CARGO_TARGET_DIR=target/asan LOSSES=$(LOSSES) \
		$(CARGO) test --locked --target "$$host" --test hostile --test mutants --test losses --test pending

bench: setup
	PEER="$(PEER)" $(CARGO) bench --locked --bench whole

pictures: MINUTES = 60
pictures: setup
	MINUTES=$(MINUTES) PART=$(PART) SERIES=$(SERIES) PEER="$(PEER)" PEER_NAME="$(PEER_NAME)" \
		$(CARGO) bench --locked --bench pictures

# What it needs is installed below target/matrix.
matrix: setup
	ONLY=$(ONLY) $(CARGO) test --locked --test matrix

image: setup
	CARGO="$(CARGO)" .ci/image

arm: setup
	CARGO="$(CARGO)" .ci/cross aarch64 armv7hf

dist: setup
	CARGO="$(CARGO)" .ci/dist

clean:
	$(CARGO) clean
