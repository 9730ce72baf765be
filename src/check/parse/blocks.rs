//! Texts in blocks: while one is merged into the history and the next is being read, the parts of a third are
//! turned into records on all threads.
//!
//! A block is cut where a line begins like a record. That it does begin one is a guess (a string may hold such a
//! line), which is confirmed when the records before the cut end exactly there; if they do not, the rest of the
//! block is read again in one piece. So the records never depend on the cuts, nor on the number of threads.

use std::io::{self, Read};

use super::batch::{Batch, Form};

/// How a text is cut for reading it, in bytes. The sizes decide how fast it is read and how much of it is held,
/// never what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blocks {
    /// The first block, which shows the format and is read on one thread.
    pub first: usize,
    /// Every other block.
    pub block: usize,
    /// The parts of a block, which are read in parallel.
    pub part: usize,
}

impl Default for Blocks {
    fn default() -> Self {
        Blocks {
            first: 64 << 10,
            block: 4 << 20,
            part: 512 << 10,
        }
    }
}

/// A block that became records.
#[derive(Default)]
pub(super) struct Block {
    pub text: Vec<u8>,
    /// In the order of the text. Only the last may hold something wrong.
    pub batches: Vec<Batch>,
}

impl Block {
    /// Where the first record begins that is not in the batches.
    pub fn end(&self) -> usize {
        self.batches.last().map_or(0, |batch| batch.end)
    }

    fn is_wrong(&self) -> bool {
        self.batches.iter().any(|batch| batch.wrong.is_some())
    }
}

/// Reads a text and hands each block to `merge`, in order. `merge` fails for a block that holds something wrong.
pub(super) fn read<E: From<io::Error>>(
    mut source: impl Read,
    blocks: Blocks,
    mut merge: impl FnMut(&mut Block) -> Result<(), E>,
) -> Result<(), E> {
    let mut parser = Parser::default();
    let (mut before, mut text, mut next) = (Block::default(), Vec::new(), Vec::new());
    let mut want = blocks.first;
    fill(&mut source, &mut text, want)?;
    loop {
        let (batches, meanwhile) = parser.parse(&text, blocks.part, || {
            merge(&mut before)?;
            Ok::<_, E>(fill(&mut source, &mut next, want))
        });
        let filled = meanwhile?;
        let mut block = Block { text, batches };
        let rest = &block.text[block.end()..];
        next.splice(0..0, rest.iter().copied());
        if block.is_wrong() || !matches!(filled, Ok(1..)) {
            merge(&mut block)?;
            filled?;
            return merge(&mut parser.parse_last(next));
        }
        // A record larger than a block: double what is read, so that reading it again stays linear.
        want = if block.end() == 0 { next.len() } else { 0 }.max(blocks.block);
        let old = std::mem::replace(&mut before, block);
        parser.spare.extend(old.batches);
        text = std::mem::replace(&mut next, old.text);
        next.clear();
    }
}

/// Reads so many bytes, or to the end; how many it was.
fn fill(source: &mut impl Read, text: &mut Vec<u8>, want: usize) -> io::Result<usize> {
    source.take(want as u64).read_to_end(text)
}

/// Turns text into batches.
#[derive(Default)]
struct Parser {
    /// The form so far.
    form: Form,
    spare: Vec<Batch>,
}

impl Parser {
    /// Reads the records of a block, on all threads, and does something else on this one meanwhile: the source of
    /// the text need not be `Send`.
    fn parse<T>(
        &mut self,
        text: &[u8],
        part: usize,
        meanwhile: impl FnOnce() -> T,
    ) -> (Vec<Batch>, T) {
        let form = self.form;
        // The first record shows the form of all.
        let ends = match form.json {
            Some(_) => ends_of_parts(text, part),
            None => vec![text.len()],
        };
        let mut batches: Vec<Batch> = ends
            .iter()
            .map(|_| self.spare.pop().unwrap_or_default())
            .collect();
        let result = if let [only] = batches.as_mut_slice() {
            only.read(text, 0, form, false);
            meanwhile()
        } else {
            rayon::in_place_scope(|scope| {
                let mut start = 0;
                for (batch, &end) in batches.iter_mut().zip(&ends) {
                    scope.spawn(move |_| batch.read(&text[..end], start, form, false));
                    start = end;
                }
                meanwhile()
            })
        };
        self.confirm(text, &ends, &mut batches);
        (batches, result)
    }

    /// Keeps the batches up to the first that does not end where the next begins, and reads the rest in one piece.
    fn confirm(&mut self, text: &[u8], ends: &[usize], batches: &mut Vec<Batch>) {
        let form = self.form;
        let goes_on = |(batch, &end): (&Batch, &usize)| {
            let gap = &text[batch.end..end];
            batch.wrong.is_none()
                && batch.form == form
                && gap.iter().all(|byte| b" ,\n\r\t".contains(byte))
        };
        let confirmed = batches.iter().zip(ends).take_while(|&pair| goes_on(pair));
        let last = confirmed.count().min(batches.len() - 1);
        self.spare.extend(batches.drain(last + 1..));
        let batch = batches.last_mut().expect("a text has a part");
        if batch.wrong.is_none() && ends[last] < text.len() {
            let (start, form) = (batch.end, batch.form);
            let mut rest = self.spare.pop().unwrap_or_default();
            rest.read(text, start, form, false);
            self.form = rest.form;
            batches.push(rest);
        } else {
            self.form = batch.form;
        }
    }

    /// Reads what is left when nothing more comes.
    fn parse_last(&mut self, mut text: Vec<u8>) -> Block {
        // A blank ends whatever the text left open.
        text.push(b'\n');
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.read(&text, 0, self.form, true);
        Block {
            text,
            batches: vec![batch],
        }
    }
}

/// Cuts a text where lines begin like records, into parts of about this size.
fn ends_of_parts(text: &[u8], part: usize) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut from = part;
    while from < text.len() {
        let mut lines = text[from - 1..].windows(2);
        let begins = |pair: &[u8]| pair[0] == b'\n' && matches!(pair[1], b'{' | b'#');
        let Some(at) = lines.position(begins) else {
            break;
        };
        ends.push(from + at);
        from += at + part;
    }
    ends.push(text.len());
    ends
}
