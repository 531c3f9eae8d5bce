//! What has been told need not be told again until it changes.

/// Remembers what was told last about one subject.
#[derive(Clone, Debug)]
pub struct ToldOnce<T>(Option<T>);

impl<T> Default for ToldOnce<T> {
    fn default() -> ToldOnce<T> {
        ToldOnce(None)
    }
}

impl<T: PartialEq> ToldOnce<T> {
    /// Whether this is news.
    pub fn news(&mut self, what: T) -> bool {
        let news = self.0.as_ref() != Some(&what);
        self.0 = Some(what);
        news
    }

    /// It is over: the next time it is news again. Whether it had been told.
    pub fn over(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_until_it_changes_or_is_over() {
        let mut told = ToldOnce::default();
        assert!(told.news(1) && !told.news(1) && told.news(2) && told.news(1));
        assert!(told.over() && !told.over() && told.news(1));
    }
}
