//! Bytes to tokens, for JSON and EDN alike.
//!
//! The two agree but for a few letters: EDN has keywords, tags and comments, JSON a colon after each name. A
//! history is a hundred million digits, so this works on bytes, in place, and allocates for nothing but
//! escaped strings. Nothing recurses: nesting a million deep is skipped like any other text.

/// Why a record could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// The text ends within the record: there may be more to read.
    Incomplete,
    /// The text is wrong.
    Bad(String),
}

pub(super) type Parsed<T> = Result<T, Stop>;

pub(super) fn bad<T>(reason: impl Into<String>) -> Parsed<T> {
    Err(Stop::Bad(reason.into()))
}

/// A scalar, as far as a history needs to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scalar<'a> {
    /// `nil` or `null`.
    Nil,
    /// An integer from 0 to 2^63 - 1.
    Number(u64),
    /// An integer from -2^63 to -1.
    Negative(i64),
    /// Anything else: keywords with their colon, strings without their quotes.
    Text(&'a [u8]),
}

/// A position in a text.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    pub json: bool,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], json: bool) -> Self {
        Cursor { bytes, at: 0, json }
    }

    /// The next byte.
    #[inline]
    pub fn peek(&self) -> Parsed<u8> {
        self.bytes.get(self.at).copied().ok_or(Stop::Incomplete)
    }

    /// Skips blanks, commas (they are blanks in EDN, and nothing depends on them in JSON), comments and discarded
    /// values.
    #[inline]
    pub fn blanks(&mut self) -> Parsed<()> {
        // Nearly always there is nothing to skip, or one comma.
        for _ in 0..2 {
            match self.peek()? {
                b',' => self.at += 1,
                b' ' | b'\n' | b'\t' | b'\r' | b';' | b'#' => break,
                _ => return Ok(()),
            }
        }
        self.all_blanks()
    }

    #[inline(never)]
    fn all_blanks(&mut self) -> Parsed<()> {
        loop {
            self.plain_blanks()?;
            if !self.is_discard()? {
                return Ok(());
            }
            self.at += 2;
            self.skip()?;
        }
    }

    #[inline]
    fn plain_blanks(&mut self) -> Parsed<()> {
        loop {
            match self.peek()? {
                b' ' | b',' | b'\n' | b'\t' | b'\r' => self.at += 1,
                b';' if !self.json => self.line()?,
                _ => return Ok(()),
            }
        }
    }

    /// Is `#_` next?
    #[inline]
    fn is_discard(&self) -> Parsed<bool> {
        if self.json || self.peek()? != b'#' {
            return Ok(false);
        }
        let next = self.bytes.get(self.at + 1).ok_or(Stop::Incomplete)?;
        Ok(*next == b'_')
    }

    fn line(&mut self) -> Parsed<()> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n');
        self.at += end.ok_or(Stop::Incomplete)?;
        Ok(())
    }

    /// The next byte after blanks.
    #[inline]
    pub fn token(&mut self) -> Parsed<u8> {
        self.blanks()?;
        self.peek()
    }

    /// Consumes `wanted`, or says what was there instead.
    #[inline]
    pub fn expect(&mut self, wanted: u8) -> Parsed<()> {
        let found = self.token()?;
        if found != wanted {
            return unexpected(wanted, found);
        }
        self.at += 1;
        Ok(())
    }

    /// Consumes `wanted` if it is next.
    #[inline]
    pub fn accept(&mut self, wanted: u8) -> Parsed<bool> {
        let found = self.token()? == wanted;
        self.at += usize::from(found);
        Ok(found)
    }

    /// A number, text or nil.
    #[inline]
    pub fn scalar(&mut self) -> Parsed<Scalar<'a>> {
        match self.token()? {
            b'0'..=b'9' => match self.digits() {
                Some(number) => Ok(Scalar::Number(number)),
                None => self.word(),
            },
            b'"' => Ok(Scalar::Text(self.string()?)),
            b'{' | b'[' | b'(' | b'}' | b']' | b')' => bad(format!(
                "expected a value, found '{}'",
                char::from(self.peek()?)
            )),
            _ => self.word(),
        }
    }

    /// Consumes an integer of at most 18 digits that is next, without a blank before it; the fast way to most
    /// numbers, which leaves the others where they are.
    #[inline]
    pub fn digits(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for (at, &byte) in self.bytes.get(self.at..)?.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                if at == 0 || at > 18 || !is_delimiter(byte) {
                    return None;
                }
                self.at += at;
                return Some(number);
            }
            // Wraps only beyond 18 digits.
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        }
        None
    }

    fn word(&mut self) -> Parsed<Scalar<'a>> {
        let start = self.at;
        if self.peek()? == b'\\' && !self.json {
            // An EDN character, which may be a bracket, a quote or a blank.
            self.at += 2;
        }
        while !is_delimiter(self.peek()?) {
            self.at += 1;
        }
        let text = &self.bytes[start..self.at];
        if text.is_empty() {
            return bad(format!("unexpected '{}'", char::from(self.peek()?)));
        }
        if text == b"nil" || text == b"null" {
            return Ok(Scalar::Nil);
        }
        if !text.iter().any(u8::is_ascii_digit) {
            return Ok(Scalar::Text(text));
        }
        let integer = text.strip_suffix(b"N").unwrap_or(text);
        let integer = std::str::from_utf8(integer)
            .ok()
            .and_then(|t| t.parse::<i64>().ok());
        Ok(match integer {
            Some(number) => match u64::try_from(number) {
                Ok(number) => Scalar::Number(number),
                Err(_) => Scalar::Negative(number),
            },
            None => Scalar::Text(text),
        })
    }

    /// A string's bytes between the quotes, escapes and all.
    #[inline]
    pub fn string(&mut self) -> Parsed<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Ok(&self.bytes[start..self.at - 1])
    }

    /// The name of a map's entry, without colon or quotes; leaves the cursor at its value.
    #[inline]
    pub fn name(&mut self) -> Parsed<&'a [u8]> {
        if self.json {
            let name = self.string()?;
            self.expect(b':')?;
            return Ok(name);
        }
        match self.scalar()? {
            Scalar::Text(text) => Ok(text.strip_prefix(b":").unwrap_or(text)),
            other => bad(format!("expected a keyword, found {other:?}")),
        }
    }

    /// Skips one value of any kind, and those that are discarded before it. Calls nothing that calls it: values
    /// nest, and discards do, as deep as the text likes.
    #[inline]
    pub fn skip(&mut self) -> Parsed<()> {
        if self.digits().is_some() {
            return Ok(());
        }
        self.skip_any()
    }

    fn skip_any(&mut self) -> Parsed<()> {
        let (mut depth, mut wanted) = (0u64, 1u64);
        loop {
            self.plain_blanks()?;
            if self.is_discard()? {
                self.at += 2;
                wanted += u64::from(depth == 0);
                continue;
            }
            match self.peek()? {
                b'"' => drop(self.string()?),
                b'{' | b'[' | b'(' => {
                    self.at += 1;
                    depth += 1;
                }
                b'}' | b']' | b')' if depth == 0 => return bad("expected a value"),
                b'}' | b']' | b')' => {
                    self.at += 1;
                    depth -= 1;
                }
                b':' if self.json => {
                    self.at += 1;
                    continue;
                }
                b'#' if !self.json => {
                    self.tag()?;
                    continue;
                }
                _ => drop(self.word()?),
            }
            wanted -= u64::from(depth == 0);
            if wanted == 0 {
                return Ok(());
            }
        }
    }

    /// Skips the tag of a tagged value (`#jepsen.history.Op{...}`, `#inst "..."`), or the `#` of a set.
    pub fn tag(&mut self) -> Parsed<()> {
        self.expect(b'#')?;
        while !is_delimiter(self.peek()?) {
            self.at += 1;
        }
        Ok(())
    }
}

#[cold]
fn unexpected(wanted: u8, found: u8) -> Parsed<()> {
    let (wanted, found) = (char::from(wanted), char::from(found));
    bad(format!("expected '{wanted}', found '{found}'"))
}

#[inline]
fn is_delimiter(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b',' | b']' | b'}' | b')' | b'\n' | b'\t' | b'\r' | b'[' | b'{' | b'(' | b'"' | b';'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(text: &str) -> Scalar<'_> {
        Cursor::new(text.as_bytes(), false).scalar().unwrap()
    }

    #[test]
    fn integers_of_any_size_are_told_apart() {
        assert_eq!(scalar("0 "), Scalar::Number(0));
        assert_eq!(
            scalar("9223372036854775807 "),
            Scalar::Number(i64::MAX as u64)
        );
        assert_eq!(
            scalar("9223372036854775808 "),
            Scalar::Text(b"9223372036854775808")
        );
        assert_eq!(
            scalar("99999999999999999999999 "),
            Scalar::Text(b"99999999999999999999999")
        );
        assert_eq!(scalar("-7 "), Scalar::Negative(-7));
        assert_eq!(scalar("7N "), Scalar::Number(7));
        assert_eq!(scalar("1.5 "), Scalar::Text(b"1.5"));
    }

    #[test]
    fn a_value_that_may_go_on_is_incomplete() {
        for text in ["", "12", "\"ab", "nil", "\"\\", "  ", "#"] {
            let stop = Cursor::new(text.as_bytes(), false).scalar();
            assert_eq!(stop, Err(Stop::Incomplete), "{text}");
        }
    }

    #[test]
    fn nesting_of_any_depth_is_skipped() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000) + " ";
        let mut cursor = Cursor::new(deep.as_bytes(), true);
        cursor.skip().unwrap();
        assert_eq!(cursor.at, 2_000_000);
    }

    #[test]
    fn comments_discards_and_tags_are_skipped() {
        let mut cursor = Cursor::new(b"; all\n #_ {:a [1]} #inst \"x\" 5 ", false);
        cursor.skip().unwrap();
        assert_eq!(cursor.scalar(), Ok(Scalar::Number(5)));
    }
}
