//! Walks over the replies of Redis in the bytes in which they arrive.
//!
//! A page of measurements is read where it lies: most of what this program does with its CPU
//! would otherwise be a tree of values with one allocation for every name and every value.
//! Only the second version of the protocol is known here; it is what a connection speaks that
//! has not asked for another. All other replies are left to the library.

use ::redis::{RedisResult, Value};

/// A longer string than Redis itself can hold: the bytes are no replies.
const MAX_STRING: usize = 1 << 29;
/// Of the length of a string or an array.
const MAX_DIGITS: usize = 9;

/// The bytes are no replies of the protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// Finds the end of replies that arrive in pieces.
pub struct Scan {
    at: usize,
    pending: usize,
    announced: Option<usize>,
}

impl Scan {
    /// Expects so many replies.
    pub fn new(replies: usize) -> Scan {
        Scan {
            at: 0,
            pending: replies,
            announced: None,
        }
    }

    /// Where the string ends that has not arrived in full, counted from the beginning.
    pub fn announced(&self) -> Option<usize> {
        self.announced
    }

    /// Goes on in what has arrived so far, which is given from its beginning each time. The
    /// length of the replies, or `None` where a part of them is still to come.
    ///
    /// # Errors
    /// The bytes are no replies.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        while self.pending > 0 {
            let Some(head) = Head::read(bytes, self.at)? else {
                return Ok(None);
            };
            let end = head.body + head.string_bytes();
            if bytes.len() < end {
                self.announced = Some(end);
                return Ok(None);
            }
            self.announced = None;
            self.at = end;
            self.pending = (self.pending - 1)
                .checked_add(head.elements())
                .ok_or(Malformed)?;
        }
        Ok(Some(self.at))
    }
}

/// The first line of a reply.
struct Head {
    kind: u8,
    /// Of a string or an array; `None` also where it is nil.
    length: Option<usize>,
    /// Where the line ends.
    body: usize,
}

impl Head {
    /// Most of the way from Redis is spent here: the length of a string or an array first.
    fn read(bytes: &[u8], at: usize) -> Result<Option<Head>, Malformed> {
        let Some(&kind) = bytes.get(at) else {
            return Ok(None);
        };
        if matches!(kind, b'$' | b'*') {
            let (mut length, mut end) = (0, at + 1);
            while let Some(digit @ b'0'..=b'9') = bytes.get(end) {
                if end - at > MAX_DIGITS {
                    return Err(Malformed);
                }
                length = 10 * length + usize::from(digit - b'0');
                end += 1;
            }
            let is_complete = bytes.get(end..end + 2) == Some(b"\r\n");
            if is_complete && end > at + 1 && length <= MAX_STRING {
                return Ok(Some(Head {
                    kind,
                    length: Some(length),
                    body: end + 2,
                }));
            }
        }
        Head::read_line(bytes, at, kind)
    }

    /// One without a length, or whose end has not arrived.
    fn read_line(bytes: &[u8], at: usize, kind: u8) -> Result<Option<Head>, Malformed> {
        let line = &bytes[at + 1..];
        let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let text = line[..end].strip_suffix(b"\r").ok_or(Malformed)?;
        let is_head =
            matches!(kind, b'+' | b'-' | b':') || matches!(kind, b'$' | b'*') && text == b"-1";
        let head = Head {
            kind,
            length: None,
            body: at + 1 + end + 1,
        };
        is_head.then_some(Some(head)).ok_or(Malformed)
    }

    /// Bytes of a string with its line end behind the first line.
    fn string_bytes(&self) -> usize {
        match (self.kind, self.length) {
            (b'$', Some(length)) => length + 2,
            _ => 0,
        }
    }

    fn elements(&self) -> usize {
        match (self.kind, self.length) {
            (b'*', Some(length)) => length,
            _ => 0,
        }
    }
}

/// A way through complete replies, from one to the next. Every step answers `None` where the
/// next reply is not of the expected kind.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Walk<'a> {
        Walk { bytes, at }
    }

    /// Where the next reply begins.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Enters an array: how many replies it holds, which come next. A nil one holds none.
    pub fn array(&mut self) -> Option<usize> {
        let head = self.head().filter(|head| head.kind == b'*')?;
        self.at = head.body;
        Some(head.elements())
    }

    /// A string that is not nil.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let head = self.head().filter(|head| head.kind == b'$')?;
        let text = self.bytes.get(head.body..head.body + head.length?)?;
        self.at = head.body + head.string_bytes();
        Some(text)
    }

    /// Passes over the next reply, whatever it is.
    pub fn skip(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += Scan::new(1).advance(rest).ok().flatten().unwrap_or(0);
    }

    /// The next reply as a whole, as the library understands it. Errors are values, too.
    ///
    /// # Errors
    /// There is no further reply.
    pub fn value(&mut self) -> RedisResult<Value> {
        let begin = self.at;
        self.skip();
        ::redis::parse_redis_value(self.bytes.get(begin..self.at).unwrap_or_default())
    }

    fn head(&self) -> Option<Head> {
        Head::read(self.bytes, self.at).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REPLIES: &[u8] = b"+OK\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nn\r\n$-1\r\n:7\r\n";

    #[test]
    fn a_walk_visits_what_was_sent() {
        let mut walk = Walk::new(REPLIES, 0);
        assert_eq!(walk.value().ok(), Some(Value::Okay));
        assert_eq!(walk.string(), None);
        assert_eq!(walk.array(), Some(2));
        assert_eq!(walk.string(), Some(&b"1-0"[..]));
        let mut over = walk;
        over.skip();
        assert_eq!(over.value().ok(), Some(Value::Int(7)));
        assert_eq!(walk.array(), Some(2));
        assert_eq!(walk.string(), Some(&b"n"[..]));
        assert_eq!(walk.string(), None);
        assert_eq!(walk.value().ok(), Some(Value::Nil));
        assert_eq!(walk.value().ok(), Some(Value::Int(7)));
        assert_eq!(walk.at(), REPLIES.len());
        assert!(walk.value().is_err());
    }

    #[test]
    fn what_is_no_reply_is_malformed() {
        for bytes in [
            &b"?1\r\n"[..],
            b"$x\r\n",
            b"$\r\n",
            b"*-2\r\n",
            b"+OK\n",
            b"$9999999999\r\n",
        ] {
            assert_eq!(Scan::new(1).advance(bytes), Err(Malformed), "{bytes:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn the_end_is_found_however_the_bytes_are_cut(
            strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10),
            cuts in prop::collection::vec(1usize..20, 1..200),
        ) {
            let mut bytes = format!("*{}\r\n", strings.len()).into_bytes();
            for string in &strings {
                bytes.extend(format!("${}\r\n", string.len()).into_bytes());
                bytes.extend(string);
                bytes.extend(b"\r\n");
            }
            let mut scan = Scan::new(1);
            let mut arrived = 0;
            for cut in cuts {
                prop_assert_eq!(scan.advance(&bytes[..arrived]), Ok(None));
                arrived += cut;
                if arrived >= bytes.len() {
                    break;
                }
            }
            prop_assert_eq!(scan.advance(&bytes), Ok(Some(bytes.len())));
            let mut walk = Walk::new(&bytes, 0);
            prop_assert_eq!(walk.array(), Some(strings.len()));
            for string in &strings {
                prop_assert_eq!(walk.string(), Some(&string[..]));
            }
        }

        #[test]
        fn nothing_that_arrives_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Scan::new(2).advance(&bytes);
            let mut walk = Walk::new(&bytes, 0);
            let _ = (walk.array(), walk.string(), walk.value());
        }
    }
}
