//! Messages of MQTT, as they are published and as they arrive.

/// A message to be published.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: i32,
    pub retained: bool,
    /// MQTT 5: correlation data of the request that this answers.
    pub correlation: Option<Vec<u8>>,
}

/// A message that arrived on one of the subscribed topics.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub topic: String,
    /// Empty where it was larger than what is kept.
    pub payload: Vec<u8>,
    /// How large the payload was.
    pub bytes: usize,
    pub retained: bool,
    pub correlation: Option<Vec<u8>>,
}
