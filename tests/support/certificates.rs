//! Certificates made for the test: two authorities and what they sign.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

/// A folder with certificates and keys, named after what they are.
pub struct Certificates {
    pub folder: PathBuf,
}

/// What a certificate is good for.
#[derive(Clone, Copy)]
pub enum Validity {
    Now,
    Past,
    Future,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority(name: &str) -> Authority {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let pem = params.self_signed(&key).expect("certificate").pem();
    Authority {
        issuer: Issuer::new(params, key),
        pem,
    }
}

impl Certificates {
    /// `ca.pem`; servers `good`, `untrusted`, `expired`, `future`, `wrong-name`, `address`;
    /// clients `client`, `client-other` (of another authority), `client-new`, `client-expired`, and
    /// `client-encrypted.key`.
    pub fn make(folder: &Path) -> Certificates {
        let certificates = Certificates {
            folder: folder.to_path_buf(),
        };
        let (ours, other) = (authority("ours"), authority("other"));
        certificates.write("ca.pem", &ours.pem);
        certificates.write("other-ca.pem", &other.pem);
        certificates.issue("good", &ours, "localhost", Validity::Now);
        certificates.issue("untrusted", &other, "localhost", Validity::Now);
        certificates.issue("expired", &ours, "localhost", Validity::Past);
        certificates.issue("future", &ours, "localhost", Validity::Future);
        certificates.issue("wrong-name", &ours, "elsewhere.example", Validity::Now);
        certificates.issue("address", &ours, "127.0.0.1", Validity::Now);
        certificates.issue("client", &ours, "device-1", Validity::Now);
        certificates.issue("client-new", &ours, "device-2", Validity::Now);
        certificates.issue("client-other", &other, "device-1", Validity::Now);
        certificates.issue("client-expired", &ours, "device-1", Validity::Past);
        certificates.encrypt("client.key", "client-encrypted.key");
        certificates
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The text of a file.
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).expect("file")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).expect("file");
    }

    fn issue(&self, name: &str, by: &Authority, subject: &str, validity: Validity) {
        let key = KeyPair::generate().expect("key");
        // An IP address becomes an address among the alternative names.
        let mut params = CertificateParams::new(vec![subject.to_string()]).expect("params");
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, subject);
        (params.not_before, params.not_after) = match validity {
            Validity::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1)),
            Validity::Past => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Validity::Future => (date_time_ymd(2110, 1, 1), date_time_ymd(2120, 1, 1)),
        };
        let certificate = params.signed_by(&key, &by.issuer).expect("certificate");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn encrypt(&self, from: &str, to: &str) {
        let status = std::process::Command::new("openssl")
            .args([
                "pkey",
                "-aes256",
                "-passout",
                "pass:x",
                "-in",
                &self.path(from),
                "-out",
                &self.path(to),
            ])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "openssl");
    }
}
