//! The supervisor of balena: the only one who can reboot the device.

use std::time::Duration;

use crate::model::quote::shortened;

/// The supervisor answers before it acts; when it does not within this time, something is wrong.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the supervisor is, and the key to it.
pub struct Supervisor {
    address: String,
    key: String,
}

/// Why the device does not reboot.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebootError {
    #[error(
        "there is no balena supervisor here (BALENA_SUPERVISOR_ADDRESS and BALENA_SUPERVISOR_API_KEY are not set; \
         the service needs the label io.balena.features.supervisor-api)"
    )]
    Absent,
    #[error("the supervisor refuses: an update lock is set{}", detail(.0))]
    Locked(String),
    #[error("the supervisor refuses the key of this service (status 401)")]
    Unauthorized,
    #[error("the supervisor answered with status {status}{}", detail(.reason))]
    Refused { status: u16, reason: String },
    /// Whether it will reboot is unknown.
    #[error("the supervisor did not answer: {0}")]
    Unreachable(String),
}

fn detail(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

impl Supervisor {
    /// Takes address and key from the environment, as balena sets them.
    ///
    /// # Errors
    /// `Absent` where they are not set.
    pub fn from_environment() -> Result<Supervisor, RebootError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        match (
            variable("BALENA_SUPERVISOR_ADDRESS"),
            variable("BALENA_SUPERVISOR_API_KEY"),
        ) {
            (Some(address), Some(key)) => Ok(Supervisor { address, key }),
            _ => Err(RebootError::Absent),
        }
    }

    /// Asks for a reboot. It has been accepted, not yet done, when this returns.
    ///
    /// # Errors
    /// Why it was not accepted.
    pub fn reboot(&self, force: bool) -> Result<(), RebootError> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // The supervisor is on this device, whatever proxy the environment names.
            .proxy(None)
            .max_redirects(0)
            .build()
            .into();
        let body = if force { r#"{"force":true}"# } else { "{}" };
        let response = agent
            .post(format!("{}/v1/reboot", self.address.trim_end_matches('/')))
            .header("Authorization", format!("Bearer {}", self.key))
            .header("Content-Type", "application/json")
            .send(body);
        // The key is in the request only, never in an error of the library.
        let mut response = response.map_err(|error| RebootError::Unreachable(error.to_string()))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let text = response
            .body_mut()
            .with_config()
            .limit(4096)
            .read_to_string()
            .unwrap_or_default();
        Err(refusal(status, &text))
    }
}

fn refusal(status: u16, text: &str) -> RebootError {
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(rename = "Error")]
        error: Option<String>,
    }
    let body: Option<Body> = serde_json::from_str(text).ok();
    let reason = match body {
        Some(body) => shortened(&body.error.unwrap_or_default()),
        None => shortened(text.lines().next().unwrap_or_default()),
    };
    match status {
        423 => RebootError::Locked(reason),
        401 => RebootError::Unauthorized,
        _ => RebootError::Refused { status, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_with_the_reason_of_the_supervisor() {
        let locked = refusal(423, r#"{"Data":"","Error":"Updates are locked"}"#).to_string();
        assert_eq!(
            locked,
            "the supervisor refuses: an update lock is set: Updates are locked"
        );
        assert_eq!(refusal(401, "Unauthorized"), RebootError::Unauthorized);
        let failed = refusal(500, "<html>oops\nmore").to_string();
        assert_eq!(
            failed,
            "the supervisor answered with status 500: <html>oops"
        );
    }
}
