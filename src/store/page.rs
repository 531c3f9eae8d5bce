//! A page of the stream, in the bytes in which Redis sent it.

use super::StreamState;
use crate::model::measurement::Entry;
use crate::model::stream_id::StreamId;
use crate::redis::reply::Walk;

/// Entries of the stream in a row, and the state of the stream at the same moment.
#[derive(Debug, Default)]
pub struct Page {
    reply: Vec<u8>,
    places: Vec<Place>,
    /// `None`: not looked at.
    pub stream: Option<StreamState>,
}

/// Where an entry lies in the reply.
#[derive(Debug)]
struct Place {
    id: StreamId,
    /// The first of its fields, and how many strings they are.
    fields: usize,
    strings: usize,
}

impl Page {
    /// Takes the array of entries that begins at `at`; `None` where it is none.
    pub fn new(reply: Vec<u8>, at: usize, stream: Option<StreamState>) -> Option<Page> {
        let mut walk = Walk::new(&reply, at);
        let count = walk.array()?;
        let places = (0..count)
            .map(|_| place(&mut walk))
            .collect::<Option<_>>()?;
        Some(Page {
            reply,
            places,
            stream,
        })
    }

    /// Nothing but the state of the stream.
    pub fn empty(stream: StreamState) -> Page {
        Page {
            stream: Some(stream),
            ..Page::default()
        }
    }

    /// Entries on the page.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The ID of the first entry.
    pub fn first(&self) -> Option<StreamId> {
        self.places.first().map(|place| place.id)
    }

    /// The entries in the order of the stream.
    pub fn entries(&self) -> impl Iterator<Item = Entry<Fields<'_>>> {
        self.places.iter().map(|place| Entry {
            id: place.id,
            fields: Fields {
                walk: Walk::new(&self.reply, place.fields),
                left: place.strings / 2,
            },
        })
    }
}

fn place(walk: &mut Walk) -> Option<Place> {
    walk.array().filter(|parts| *parts == 2)?;
    let id = std::str::from_utf8(walk.string()?).ok()?.parse().ok()?;
    let strings = walk.array()?;
    let fields = walk.at();
    for _ in 0..strings {
        walk.string()?;
    }
    Some(Place {
        id,
        fields,
        strings,
    })
}

/// Names and values of one entry.
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
        let page = Page::new(reply.to_vec(), 5, None).expect("a page");
        assert_eq!((page.len(), page.first()), (2, Some(StreamId::new(1, 0))));
        let entries: Vec<_> = page
            .entries()
            .map(|entry| (entry.id.seq, entry.fields.collect::<Vec<_>>()))
            .collect();
        assert_eq!(entries, [(0, vec![(&b"n"[..], &b"\r\n"[..])]), (1, vec![])]);
    }

    #[test]
    fn what_is_not_a_list_of_entries_is_no_page() {
        for reply in [
            "+OK\r\n",
            "*1\r\n$1\r\nx\r\n",
            "*1\r\n*2\r\n$1\r\nx\r\n*0\r\n",
        ] {
            assert!(Page::new(reply.into(), 0, None).is_none(), "{reply}");
        }
    }
}
