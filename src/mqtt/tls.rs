//! Why a TLS connection does not come about, in words.
//!
//! The MQTT library reports one and the same error for a wrong CA, an expired certificate and a
//! missing file. So the files are read before, at every connect, and after a failure one
//! handshake is made here whose only purpose is to see what goes wrong.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{HandshakeError, SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::{X509, X509VerifyResult};

use zeroize::Zeroizing;

use crate::config::{Pem, Tls};
use crate::net;

/// Suites of TLS 1.2; those of TLS 1.3 are always there. Older versions of the protocol have
/// none of them, so that they cannot be spoken whatever the system allows.
pub const CIPHERS: &str = "TLSv1.2:!aNULL:!eNULL:!3DES:!RC4";

/// For each step of the handshake.
const TIMEOUT: Duration = Duration::from_secs(5);
/// With TLS 1.3 the broker refuses a client certificate after the handshake.
const LATE_ALERT: Duration = Duration::from_secs(1);

/// Checks that the files hold what they should.
///
/// # Errors
/// What is wrong with which file, with the setting to look at.
pub fn check_files(tls: &Tls) -> Result<(), String> {
    if let Some(ca) = &tls.ca {
        certificates(ca)?;
    }
    let Some((certificate_pem, key_pem)) = &tls.client else {
        return Ok(());
    };
    let certificate = certificates(certificate_pem)?.swap_remove(0);
    let key = private_key(key_pem)?;
    let fits = certificate
        .public_key()
        .is_ok_and(|public| public.public_eq(&key));
    if !fits {
        return Err(format!(
            "the key in {key_pem} does not belong to the certificate in {certificate_pem} (see {}, {})",
            certificate_pem.setting(),
            key_pem.setting()
        ));
    }
    Ok(())
}

fn read(pem: &Pem) -> Result<Zeroizing<Vec<u8>>, String> {
    std::fs::read(pem.path())
        .map(Zeroizing::new)
        .map_err(|error| format!("{pem} cannot be read: {error} (see {})", pem.setting()))
}

fn certificates(pem: &Pem) -> Result<Vec<X509>, String> {
    match X509::stack_from_pem(&read(pem)?) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!(
            "{pem} holds no certificate in PEM form (see {})",
            pem.setting()
        )),
    }
}

fn private_key(pem: &Pem) -> Result<PKey<Private>, String> {
    let setting = pem.setting();
    let text = read(pem)?;
    if text.windows(9).any(|part| part == b"ENCRYPTED") {
        return Err(format!(
            "the key in {pem} is encrypted; `openssl pkey -in KEY -out NEW` decrypts it (see {setting})"
        ));
    }
    // A callback, so that nothing ever asks for a passphrase at the terminal.
    PKey::private_key_from_pem_callback(&text, |_| Ok(0))
        .map_err(|_| format!("{pem} holds no private key in PEM form (see {setting})"))
}

/// Makes a handshake to see why it fails. `None`: it does not.
pub fn diagnose(host: &str, address: SocketAddr, tls: &Tls) -> Option<String> {
    let mut reason = handshake(host, address, tls).err()?;
    // The hints name the files; where the texts are settings themselves, those count.
    let client = tls.client.as_ref();
    for (file, pem) in [
        ("mqtt.tls_ca_certs", tls.ca.as_ref()),
        ("mqtt.tls_certfile", client.map(|client| &client.0)),
        ("mqtt.tls_keyfile", client.map(|client| &client.1)),
    ] {
        if let Some(pem) = pem {
            reason = reason.replace(file, &pem.setting());
        }
    }
    Some(reason)
}

fn handshake(host: &str, address: SocketAddr, tls: &Tls) -> Result<(), String> {
    let internal = |error: ErrorStack| {
        format!("the TLS library refused the settings: {error} (see mqtt.tls_*)")
    };
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(internal)?;
    builder
        .set_min_proto_version(Some(SslVersion::TLS1_2))
        .map_err(internal)?;
    if let Some(ca) = &tls.ca {
        builder.set_ca_file(ca.path()).map_err(internal)?;
    }
    if let Some((certificate, key)) = &tls.client {
        builder
            .set_certificate_chain_file(certificate.path())
            .map_err(internal)?;
        builder
            .set_private_key_file(key.path(), openssl::ssl::SslFiletype::PEM)
            .map_err(internal)?;
    }
    let mut configuration = builder.build().configure().map_err(internal)?;
    if tls.insecure {
        configuration.set_verify(SslVerifyMode::NONE);
        configuration.set_verify_hostname(false);
    }
    let stream = match net::dial(std::iter::once(address), TIMEOUT) {
        Some(stream) => stream.map_err(|error| error.to_string())?,
        None => return Ok(()),
    };
    drop(stream.set_read_timeout(Some(TIMEOUT)));
    drop(stream.set_write_timeout(Some(TIMEOUT)));
    let mut stream = configuration
        .connect(host, stream)
        .map_err(|error| failure(host, &error))?;
    drop(stream.get_ref().set_read_timeout(Some(LATE_ALERT)));
    // The broker says nothing before it was asked: silence is good, an alert is not.
    match stream.ssl_read(&mut [0; 1]) {
        Err(error) => error
            .ssl_error()
            .map_or(Ok(()), |stack| Err(alert(&stack.to_string()))),
        Ok(_) => Ok(()),
    }
}

fn failure(host: &str, error: &HandshakeError<TcpStream>) -> String {
    let (HandshakeError::Failure(stream) | HandshakeError::WouldBlock(stream)) = error else {
        return format!("the TLS handshake failed: {error} (see mqtt.tls_*)");
    };
    let verified = stream.ssl().verify_result();
    if verified != X509VerifyResult::OK {
        return certificate_in_words(host, verified);
    }
    match stream.error().ssl_error() {
        Some(stack) => alert(&stack.to_string()),
        None => "the TLS handshake failed: the broker closed the connection or did not answer; does this port speak TLS? (see mqtt.port, mqtt.tls_enable)".into(),
    }
}

/// Numbers as in OpenSSL's x509_vfy.h.
fn certificate_in_words(host: &str, result: X509VerifyResult) -> String {
    match result.as_raw() {
        9 => "the certificate of the broker is not yet valid: the clock of the device may be wrong".into(),
        10 => "the certificate of the broker has expired, or the clock of the device is wrong".into(),
        18..=21 | 2 => {
            "the certificate of the broker is not from a CA that this device trusts (see mqtt.tls_ca_certs)".into()
        }
        62 | 64 => format!("the certificate of the broker is not for {host:?} (see mqtt.host)"),
        _ => format!("the certificate of the broker is refused: {} (see mqtt.tls_ca_certs)", result.error_string()),
    }
}

fn alert(text: &str) -> String {
    let known = [
        (
            "certificate required",
            "the broker wants a client certificate (see mqtt.tls_certfile, mqtt.tls_keyfile)",
        ),
        (
            "unknown ca",
            "the broker does not trust the client certificate (see mqtt.tls_certfile)",
        ),
        (
            "bad certificate",
            "the broker refuses the client certificate (see mqtt.tls_certfile)",
        ),
        (
            "certificate expired",
            "the broker says that the client certificate has expired (see mqtt.tls_certfile)",
        ),
        (
            "wrong version number",
            "the broker does not speak TLS on this port (see mqtt.port, mqtt.tls_enable)",
        ),
        (
            "packet length too long",
            "the broker does not speak TLS on this port (see mqtt.port, mqtt.tls_enable)",
        ),
        (
            "unsupported protocol",
            "the broker speaks no TLS of version 1.2 or newer",
        ),
        (
            "alert protocol version",
            "the broker speaks no TLS of version 1.2 or newer",
        ),
        (
            "handshake failure",
            "the broker refuses the handshake; it may want a client certificate (see mqtt.tls_certfile)",
        ),
    ];
    match known.iter().find(|(part, _)| text.contains(part)) {
        Some((_, words)) => (*words).into(),
        None => format!("the TLS handshake failed: {text} (see mqtt.tls_*)"),
    }
}
