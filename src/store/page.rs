//! A page of the stream, in the bytes in which Redis sent it.

use crate::model::measurement::Entry;
use crate::model::stream_id::StreamId;
use crate::redis::reply::Walk;

/// Entries of the stream in a row.
#[derive(Debug, Default)]
pub struct Page {
    reply: Vec<u8>,
    places: Vec<Place>,
    /// Where the entries end in the reply.
    end: usize,
    measure: Measure,
    more: bool,
}

/// Where an entry lies in the reply.
#[derive(Debug)]
struct Place {
    id: StreamId,
    /// The first of its fields, and how many strings they are.
    fields: usize,
    strings: usize,
}

/// What the entries of a page take, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    pub entries: usize,
    /// In the reply.
    pub sent: usize,
    /// In the memory of Redis, estimated: there, names that repeat are stored once.
    pub stored: usize,
    /// The largest entry in the reply.
    pub largest: usize,
}

impl Page {
    /// Takes the array of entries that begins at `at`; `None` where it is none.
    pub fn new(reply: Vec<u8>, at: usize) -> Option<Page> {
        let mut walk = Walk::new(&reply, at);
        let count = walk.array()?;
        let mut measure = Measure::default();
        let mut names = (0, 0);
        let places = (0..count)
            .map(|_| place(&mut walk, &mut measure, &mut names))
            .collect::<Option<_>>()?;
        let end = walk.at();
        Some(Page {
            reply,
            places,
            end,
            measure,
            more: false,
        })
    }

    /// Notes whether it ends because of a limit.
    pub(super) fn with_more(mut self, more: bool) -> Page {
        self.more = more;
        self
    }

    /// What comes behind the entries in the reply.
    pub(super) fn rest(&self) -> Walk<'_> {
        Walk::new(&self.reply, self.end)
    }

    /// Whether there may be entries behind the last one of the page: it ends because of a limit.
    pub fn more(&self) -> bool {
        self.more
    }

    /// What its entries take.
    pub fn measure(&self) -> Measure {
        self.measure
    }

    /// Entries on the page.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The ID of the last entry.
    pub fn last(&self) -> Option<StreamId> {
        self.places.last().map(|place| place.id)
    }

    /// The ID of the first entry.
    pub fn first(&self) -> Option<StreamId> {
        self.places.first().map(|place| place.id)
    }

    /// The entries in the order of the stream.
    pub fn entries(&self) -> impl Iterator<Item = Entry<Fields<'_>>> + Clone {
        self.places.iter().map(|place| self.entry(place))
    }

    pub fn last_entry(&self) -> Option<Entry<Fields<'_>>> {
        self.places.last().map(|place| self.entry(place))
    }

    fn entry(&self, place: &Place) -> Entry<Fields<'_>> {
        Entry {
            id: place.id,
            fields: Fields {
                walk: Walk::new(&self.reply, place.fields),
                left: place.strings / 2,
            },
        }
    }
}

/// Bytes that an entry takes in Redis beside its values, and a value beside its text.
const ENTRY: usize = 12;
const VALUE: usize = 2;

fn place(walk: &mut Walk, measure: &mut Measure, last: &mut (usize, usize)) -> Option<Place> {
    let begin = walk.at();
    walk.array().filter(|parts| *parts == 2)?;
    let id = std::str::from_utf8(walk.string()?).ok()?.parse().ok()?;
    let strings = walk.array()?;
    let fields = walk.at();
    let (mut names, mut values) = (0, 0);
    for string in 0..strings {
        let bytes = walk.string()?.len();
        if string % 2 == 0 {
            names += bytes;
        } else {
            values += bytes + VALUE;
        }
    }
    let sent = walk.at() - begin;
    measure.entries += 1;
    measure.sent += sent;
    measure.largest = measure.largest.max(sent);
    measure.stored += ENTRY + values;
    // As good as a comparison of the names, and cheaper.
    if *last != (strings, names) {
        measure.stored += names + VALUE * strings / 2;
        *last = (strings, names);
    }
    Some(Place {
        id,
        fields,
        strings,
    })
}

/// Names and values of one entry.
#[derive(Clone)]
pub struct Fields<'a> {
    walk: Walk<'a>,
    left: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some((self.walk.string()?, self.walk.string()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_the_entries_where_they_lie() {
        let reply = b"+OK\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nn\r\n$2\r\n\r\n\r\n*2\r\n$3\r\n1-1\r\n*0\r\n";
        let page = Page::new(reply.to_vec(), 5).expect("a page");
        assert_eq!((page.len(), page.first()), (2, Some(StreamId::new(1, 0))));
        let entries: Vec<_> = page
            .entries()
            .map(|entry| (entry.id.seq, entry.fields.collect::<Vec<_>>()))
            .collect();
        assert_eq!(entries, [(0, vec![(&b"n"[..], &b"\r\n"[..])]), (1, vec![])]);
        let measure = page.measure();
        assert_eq!((measure.entries, measure.sent), (2, reply.len() - 9));
        assert_eq!(measure.largest, 32);
    }

    #[test]
    fn what_is_not_a_list_of_entries_is_no_page() {
        for reply in [
            "+OK\r\n",
            "*1\r\n$1\r\nx\r\n",
            "*1\r\n*2\r\n$1\r\nx\r\n*0\r\n",
        ] {
            assert!(Page::new(reply.into(), 0).is_none(), "{reply}");
        }
    }
}
