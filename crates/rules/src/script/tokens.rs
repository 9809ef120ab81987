//! Words as field names: `event.body.new`, `event.body.private`, `#{in: 1}`.
//!
//! Bus messages carry fields that Rhai reserves. A token mapper turns every word after `.` or `?.`, and every
//! key of a map, into a plain name; `eval` and the like elsewhere are refused.

use rhai::{Engine, LexError, Token};
use std::cell::RefCell;

/// What the tokenizer has read so far, in this thread: Rhai calls the mapper for one token at a time and
/// gives it no place to remember anything.
#[derive(Default)]
struct Memory {
    /// Whether the next word is a field or key.
    expects_name: bool,
    /// Whether the token before was a word that became a name: the tokenizer takes a sign after it for that of
    /// a number.
    after_name: bool,
    /// The open brackets; `true` for maps.
    open: Vec<bool>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// Makes the engine's tokenizer take words for names. [`reset`] before each text.
pub(super) fn register(engine: &mut Engine) {
    #[expect(deprecated, reason = "marked volatile upstream; the version of Rhai is pinned")]
    engine.on_parse_token(|token, _, _| MEMORY.with_borrow_mut(|memory| memory.map(token)));
}

/// Forgets the text before, of which an error may have left half.
pub(crate) fn reset() {
    MEMORY.with_borrow_mut(|memory| *memory = Memory::default());
}

impl Memory {
    fn map(&mut self, token: Token) -> Token {
        let was_name = std::mem::replace(&mut self.after_name, self.expects_name);
        let token = match token {
            Token::UnaryMinus if was_name => Token::Minus,
            Token::UnaryPlus if was_name => Token::Plus,
            token if self.expects_name => as_name(token),
            token => allowed(token),
        };
        match token {
            Token::MapStart => self.open.push(true),
            Token::LeftBrace | Token::LeftBracket | Token::LeftParen | Token::QuestionBracket => {
                self.open.push(false);
            }
            Token::RightBrace | Token::RightBracket | Token::RightParen => {
                self.open.pop();
            }
            _ => {}
        }
        let in_map = self.open.last() == Some(&true);
        self.expects_name = match token {
            Token::Period | Token::Elvis | Token::MapStart => true,
            Token::Comma => in_map,
            _ => false,
        };
        token
    }
}

fn as_name(token: Token) -> Token {
    let word = match &token {
        Token::Reserved(word) => word.to_string(),
        token if token.is_literal() => token.literal_syntax().to_owned(),
        _ => return token,
    };
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_word = word.starts_with(starts) && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_word { Token::Identifier(Box::new(word.into())) } else { token }
}

/// Refuses the words that would run text, name functions as text, or print.
fn allowed(token: Token) -> Token {
    const REFUSED: [&str; 6] = ["eval", "print", "debug", "Fn", "curry", "this"];
    match token.is_literal().then(|| token.literal_syntax()) {
        Some(word) if REFUSED.contains(&word) => refused(word),
        _ => match &token {
            Token::Reserved(word) if REFUSED.contains(&word.as_str()) => refused(word),
            _ => token,
        },
    }
}

fn refused(word: &str) -> Token {
    let why = format!("`{word}` is not available in rules");
    Token::LexError(Box::new(LexError::ImproperSymbol(word.to_owned(), why)))
}
