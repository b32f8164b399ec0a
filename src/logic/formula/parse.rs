//! From text to a tree, by recursive descent; one function for each rank of operators, from the weakest on.

use std::ops::Range;

use super::functions::Function;
use super::{FormulaError, Node, Operator};
use crate::limits::{FORMULA_BYTES_MAX, FORMULA_DEPTH_MAX};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Word<'t> {
    Number(f64),
    Name(&'t str),
    Sign(&'static str),
    End,
}

struct Token<'t> {
    word: Word<'t>,
    at: Range<usize>,
}

/// Longest first: `**` is not two `*`.
const SIGNS: [&str; 17] = ["**", "//", "<=", ">=", "==", "!=", "+", "-", "*", "/", "%", "<", ">", "(", ")", ",", "|"];
const WORDS: [&str; 5] = ["and", "or", "not", "if", "else"];

pub(super) fn parse(text: &str, names: &[&str]) -> Result<Node, FormulaError> {
    if text.len() > FORMULA_BYTES_MAX {
        return Err(error(0..text.len(), format!("a formula has at most {FORMULA_BYTES_MAX} bytes")));
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0, names };
    let node = parser.choice()?;
    match parser.peek() {
        Word::End => Ok(node),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

fn error(at: Range<usize>, message: impl Into<String>) -> FormulaError {
    FormulaError { at, message: message.into(), help: None }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, FormulaError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let span = |len: usize| at..at + len;
        let (word, len) = if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        } else if first.is_ascii_digit() || first == '.' {
            let len = number_len(rest);
            let number = rest[..len].parse::<f64>().ok().filter(|number| number.is_finite());
            let number = number.ok_or_else(|| error(span(len), format!("`{}` is no number", &rest[..len])))?;
            (Word::Number(number), len)
        } else if first.is_alphabetic() || first == '_' {
            let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (Word::Name(&rest[..len]), len)
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            (Word::Sign(sign), sign.len())
        } else {
            return Err(error(span(first.len_utf8()), format!("`{first}` has no meaning in a formula")));
        };
        tokens.push(Token { word, at: span(len) });
        at += len;
    }
    tokens.push(Token { word: Word::End, at: text.len()..text.len() });
    Ok(tokens)
}

/// Bytes of the number at the start: digits, a point, an exponent.
fn number_len(text: &str) -> usize {
    let digits = |from: usize| from + text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut len = digits(0);
    if text[len..].starts_with('.') {
        len = digits(len + 1);
    }
    if text[len..].starts_with(['e', 'E']) {
        let sign = usize::from(text[len + 1..].starts_with(['+', '-']));
        let end = digits(len + 1 + sign);
        if end > len + 1 + sign {
            len = end;
        }
    }
    len
}

struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    next: usize,
    depth: usize,
    names: &'t [&'t str],
}

type Parsed = Result<Node, FormulaError>;

impl<'t> Parser<'t> {
    fn peek(&self) -> Word<'t> {
        self.tokens[self.next].word
    }

    fn at(&self) -> Range<usize> {
        self.tokens[self.next].at.clone()
    }

    /// Takes a sign or a word of the language if it is next.
    fn eat(&mut self, what: &str) -> bool {
        let is = match self.peek() {
            Word::Sign(sign) => sign == what,
            Word::Name(name) => name == what && WORDS.contains(&name),
            _ => false,
        };
        // The last token is the end, which is never eaten.
        self.next += usize::from(is);
        is
    }

    fn expect(&mut self, what: &str) -> Result<(), FormulaError> {
        if self.eat(what) { Ok(()) } else { Err(self.unexpected(&format!("`{what}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> FormulaError {
        let found = match self.peek() {
            Word::End => return error(self.at(), format!("the formula ends where {wanted} should follow")),
            Word::Number(number) => format!("{number}"),
            Word::Name(name) => format!("`{name}`"),
            Word::Sign(sign) => format!("`{sign}`"),
        };
        error(self.at(), format!("{found} stands where {wanted} should"))
    }

    fn deeper(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.depth == FORMULA_DEPTH_MAX {
            return Err(error(self.at(), format!("more than {FORMULA_DEPTH_MAX} levels in one another")));
        }
        self.depth += 1;
        let node = parse(self);
        self.depth -= 1;
        node
    }

    /// `a if c else b`
    fn choice(&mut self) -> Parsed {
        let then = self.any()?;
        if !self.eat("if") {
            return Ok(then);
        }
        let condition = self.any()?;
        self.expect("else")?;
        let otherwise = self.deeper(Self::choice)?;
        Ok(Node::If(Box::new([condition, then, otherwise])))
    }

    fn any(&mut self) -> Parsed {
        self.left(&[("or", Operator::Or)], Self::all)
    }

    fn all(&mut self) -> Parsed {
        self.left(&[("and", Operator::And)], Self::negation)
    }

    fn negation(&mut self) -> Parsed {
        if self.eat("not") {
            return Ok(Node::Not(Box::new(self.deeper(Self::negation)?)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parsed {
        const COMPARISONS: [(&str, Operator); 6] = [
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("==", Operator::Equal),
            ("!=", Operator::Unequal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let left = self.sum()?;
        for (sign, operator) in COMPARISONS {
            if self.eat(sign) {
                let right = self.sum()?;
                return Ok(Node::Two(operator, Box::new(left), Box::new(right)));
            }
        }
        Ok(left)
    }

    fn sum(&mut self) -> Parsed {
        self.left(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::product)
    }

    fn product(&mut self) -> Parsed {
        let signs =
            [("*", Operator::Multiply), ("/", Operator::Divide), ("//", Operator::Floor), ("%", Operator::Modulo)];
        self.left(&signs, Self::signed)
    }

    /// Operators of one rank, from left to right.
    fn left(&mut self, signs: &[(&str, Operator)], next: fn(&mut Self) -> Parsed) -> Parsed {
        let mut node = next(self)?;
        let mut links = 0;
        while let Some((_, operator)) = signs.iter().find(|(sign, _)| self.eat(sign)) {
            // A long chain is a deep tree, too.
            links += 1;
            if links > 4 * FORMULA_DEPTH_MAX {
                return Err(error(self.at(), format!("more than {} terms in a row", 4 * FORMULA_DEPTH_MAX)));
            }
            node = Node::Two(*operator, Box::new(node), Box::new(next(self)?));
        }
        Ok(node)
    }

    fn signed(&mut self) -> Parsed {
        if self.eat("-") {
            return Ok(Node::Negative(Box::new(self.deeper(Self::signed)?)));
        }
        if self.eat("+") {
            return self.deeper(Self::signed);
        }
        let base = self.filtered()?;
        if self.eat("**") {
            let exponent = self.deeper(Self::signed)?;
            return Ok(Node::Two(Operator::Power, Box::new(base), Box::new(exponent)));
        }
        Ok(base)
    }

    /// A value, and the filters behind it.
    fn filtered(&mut self) -> Parsed {
        let mut node = self.single()?;
        let mut links = 0;
        while self.eat("|") {
            links += 1;
            if links > FORMULA_DEPTH_MAX {
                return Err(error(self.at(), format!("more than {FORMULA_DEPTH_MAX} filters in a row")));
            }
            let at = self.at();
            let Word::Name(name) = self.peek() else { return Err(self.unexpected("a filter")) };
            self.next += 1;
            let mut arguments = vec![node];
            if self.eat("(") {
                self.arguments(&mut arguments)?;
            }
            node = call(name, at, arguments)?;
        }
        Ok(node)
    }

    fn single(&mut self) -> Parsed {
        let at = self.at();
        match self.peek() {
            Word::Number(number) => {
                self.next += 1;
                Ok(Node::Number(number))
            }
            Word::Name(name) if !WORDS.contains(&name) => {
                self.next += 1;
                if self.eat("(") {
                    let mut arguments = Vec::new();
                    self.arguments(&mut arguments)?;
                    return call(name, at, arguments);
                }
                self.variable(name, at)
            }
            _ if self.eat("(") => {
                let node = self.deeper(Self::choice)?;
                self.expect(")")?;
                Ok(node)
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    /// What stands between the parentheses of a call.
    fn arguments(&mut self, arguments: &mut Vec<Node>) -> Result<(), FormulaError> {
        if self.eat(")") {
            return Ok(());
        }
        loop {
            arguments.push(self.deeper(Self::choice)?);
            if self.eat(")") {
                return Ok(());
            }
            self.expect(",")?;
        }
    }

    fn variable(&self, name: &str, at: Range<usize>) -> Parsed {
        if let Some(index) = self.names.iter().position(|known| *known == name) {
            return Ok(Node::Variable(index));
        }
        if name == "pi" {
            return Ok(Node::Number(std::f64::consts::PI));
        }
        let message = match Function::find(name) {
            Some(_) => format!("`{name}` is a function: write `{name}(…)`"),
            None => format!("no value is named `{name}`"),
        };
        let known = self.names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Err(FormulaError { at, message, help: Some(format!("known: {known}")) })
    }
}

fn call(name: &str, at: Range<usize>, arguments: Vec<Node>) -> Parsed {
    let Some(function) = Function::find(name) else {
        let known = Function::names().collect::<Vec<_>>().join(", ");
        let message = format!("no function is named `{name}`");
        return Err(FormulaError { at, message, help: Some(format!("known: {known}")) });
    };
    match function.refuses(arguments.len()) {
        Some(message) => Err(error(at, message)),
        None => Ok(Node::Call(function, arguments)),
    }
}
