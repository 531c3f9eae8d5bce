//! Certificates and keys: files, or texts that never touch a disk.
//!
//! On balena no file can be mounted into a container, and a variable has one line. So PEM is
//! taken as it is, with its line ends lost to `\n` or blanks, or as base64 of it. The MQTT
//! library wants names of files: it gets that of a sealed file in memory.

use std::fmt;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::pkey::PKey;
use openssl::x509::X509;
use rustix::fs::{MemfdFlags, SealFlags};
use zeroize::Zeroizing;

use super::item::{Key, Refusal};
use super::secret::Secret;

/// What is in a PEM text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Certificates,
    PrivateKey,
}

impl Kind {
    /// How the labels end.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Certificates => "CERTIFICATE",
            Kind::PrivateKey => "PRIVATE KEY",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Certificates => "certificate",
            Kind::PrivateKey => "private key",
        })
    }
}

/// Certificates or a key, and the setting that they come from.
#[derive(Clone)]
pub struct Pem {
    key: &'static Key,
    path: PathBuf,
    /// Keeps the memory that `path` leads to.
    _memory: Option<Arc<std::fs::File>>,
}

impl Pem {
    /// A file that others made, and may replace.
    pub fn file(key: &'static Key, path: PathBuf) -> Pem {
        Pem {
            key,
            path,
            _memory: None,
        }
    }

    /// A text in a file in memory that nobody can change.
    ///
    /// # Errors
    /// The system refuses, in words.
    pub fn memory(key: &'static Key, text: &Secret) -> Result<Pem, String> {
        let fail = |error: rustix::io::Errno| format!("it cannot be kept in memory: {error}");
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = rustix::fs::memfd_create("pem", flags).map_err(fail)?;
        let mut file = std::fs::File::from(descriptor);
        file.write_all(text.as_bytes())
            .map_err(|error| format!("it cannot be kept in memory: {error}"))?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(fail)?;
        Ok(Pem {
            key,
            path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
            _memory: Some(Arc::new(file)),
        })
    }

    /// What to open, in this process.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Section and name of the setting, for "see …".
    pub fn setting(&self) -> String {
        format!("{}.{}", self.key.section, self.key.name)
    }
}

/// What people know it by: the file, or the setting.
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self._memory {
            None => self.path.display().fmt(f),
            Some(_) => f.write_str(&self.setting()),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Brings the text of a setting into the form in which a file has it, and looks what it is.
pub fn parse(text: &str, kind: Kind) -> Result<Option<Secret>, Refusal> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let missing = || {
        Refusal::Because(format!(
            "expected a {kind} in PEM form (line ends may be \\n or blanks), or base64 of that"
        ))
    };
    let text = match text.contains("-----BEGIN ") {
        true => Zeroizing::new(text.to_string()),
        false => decoded(text).ok_or_else(missing)?,
    };
    let text = in_lines(&text).ok_or_else(missing)?;
    match kind {
        Kind::Certificates => match X509::stack_from_pem(text.as_bytes()) {
            Ok(certificates) if !certificates.is_empty() => Ok(Some(text)),
            _ => Err(missing()),
        },
        Kind::PrivateKey if text.contains("ENCRYPTED") => Err(Refusal::Because(
            "the key is encrypted; `openssl pkey -in KEY -out NEW` decrypts it".into(),
        )),
        // A callback, so that nothing ever asks for a passphrase at the terminal.
        Kind::PrivateKey => match PKey::private_key_from_pem_callback(text.as_bytes(), |_| Ok(0)) {
            Ok(_) => Ok(Some(text)),
            Err(_) => Err(missing()),
        },
    }
}

fn decoded(text: &str) -> Option<Zeroizing<String>> {
    let letters = without_blanks(&unescaped(text));
    let bytes = openssl::base64::decode_block(&letters).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    Some(Zeroizing::new(text))
}

fn unescaped(text: &str) -> Zeroizing<String> {
    let text = Zeroizing::new(text.replace("\\r", ""));
    Zeroizing::new(text.replace("\\n", "\n"))
}

fn without_blanks(text: &str) -> Zeroizing<String> {
    let letters = text.chars().filter(|letter| !letter.is_whitespace());
    Zeroizing::new(letters.collect())
}

/// The blocks of a text, one after the other, in lines of 64 letters. What stands between them
/// is a comment.
fn in_lines(text: &str) -> Option<Secret> {
    let text = unescaped(text);
    let mut rest = text.as_str();
    // Room for all of it, so that no piece is left behind where a longer one was made.
    let mut lines = Zeroizing::new(String::with_capacity(2 * text.len() + 100));
    while let Some((_, block)) = rest.split_once("-----BEGIN ") {
        let (label, block) = block.split_once("-----")?;
        let (body, after) = block.split_once(&format!("-----END {label}-----"))?;
        lines.push_str(&format!("-----BEGIN {label}-----\n"));
        let body = match body.contains("ENCRYPTED") {
            // Its headers are lines; it is refused in words anyway.
            true => Zeroizing::new(body.to_string()),
            false => without_blanks(body),
        };
        for line in body.as_bytes().chunks(64) {
            lines.push_str(std::str::from_utf8(line).ok()?);
            lines.push('\n');
        }
        lines.push_str(&format!("-----END {label}-----\n"));
        rest = after;
    }
    (!lines.is_empty()).then(|| Secret::from(lines.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate_and_key() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn every_form_that_a_variable_can_have_gives_the_same_text() {
        let (certificate, key) = certificate_and_key();
        let two = format!("# the first\r\n{certificate}and\n{certificate}");
        let expected = certificate.replace("\r\n", "\n").repeat(2);
        let encoded = openssl::base64::encode_block(two.as_bytes());
        for form in [
            two.clone(),
            two.replace("\r\n", "\n").replace('\n', "\\n"),
            two.replace("\r\n", "\\r\\n").replace('\n', "\\n"),
            two.replace("\r\n", " ").replace('\n', " "),
            encoded.clone(),
            format!(" {} \n", encoded.replace('\n', " ")),
            openssl::base64::encode_block(two.replace('\n', " ").as_bytes()),
        ] {
            let text = parse(&form, Kind::Certificates).unwrap().unwrap();
            assert_eq!(text.as_str(), expected, "{form}");
        }
        let parsed = parse(&key.replace('\n', " "), Kind::PrivateKey);
        assert_eq!(parsed.unwrap().unwrap().as_str(), key.replace("\r\n", "\n"));
    }

    #[test]
    fn what_is_no_pem_or_not_the_right_one_is_refused_without_being_shown() {
        let (certificate, key) = certificate_and_key();
        let cut = &certificate[..certificate.len() / 2];
        let broken = certificate.replace('M', "?");
        for text in ["x", "aGVsbG8=", "ü", cut, &broken, &key] {
            let refusal = parse(text, Kind::Certificates).unwrap_err();
            let expected = "expected a certificate in PEM form (line ends may be \\n or blanks), or base64 of that";
            assert_eq!(refusal, Refusal::Because(expected.into()));
        }
        assert!(parse(&certificate, Kind::PrivateKey).is_err());
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let refusal = parse(encrypted, Kind::PrivateKey).unwrap_err();
        assert!(matches!(refusal, Refusal::Because(why) if why.contains("is encrypted")));
        assert_eq!(parse(" ", Kind::PrivateKey), Ok(None));
    }

    #[test]
    fn a_text_in_memory_is_read_again_and_again_and_never_changed() {
        let key = &crate::config::items::TLS_CA_PEM.key;
        let pem = Pem::memory(key, &"text".into()).unwrap();
        for _ in 0..2 {
            assert_eq!(std::fs::read(pem.path()).unwrap(), b"text");
        }
        assert!(std::fs::write(pem.path(), "other").is_err());
        assert_eq!(pem.to_string(), "mqtt.tls_ca_pem");
        let path = pem.clone().path().to_path_buf();
        drop(pem);
        assert!(!std::fs::read(path).is_ok_and(|bytes| bytes == b"text"));
    }
}
