//! Rewrites a source file so that it contains every mutant behind a switch. Only inserts and replaces tokens, so that mutants can
//! be nested. Independent of cargo.

use std::ops::Range;

use proc_macro2::{LineColumn, Span};
use syn::{
    BinOp, Block, Expr, ExprBinary, ExprUnary, ImplItemFn, Item, ItemFn, Lit, Member, ReturnType, Stmt, TraitItemFn,
    Type, UnOp,
    spanned::Spanned,
    visit::{self, Visit},
};

/// A single change that may break the crate.
#[derive(Clone, Debug)]
pub struct Mutant {
    pub number: usize,
    pub file: String,
    /// The line in the original file, from 1.
    pub line: usize,
    /// Describes the change.
    pub what: String,
    /// The byte range in the original file.
    pub place: Range<usize>,
}

/// The rewritten text of a file, and the mutants in it.
pub struct Rewritten {
    pub text: String,
    pub mutants: Vec<Mutant>,
    /// The number of each mutant, and its byte range in `text`.
    pub places: Vec<(usize, Range<usize>)>,
    /// The number after that of the last mutant.
    pub next: usize,
}

/// Rewrites `source`. The mutants are numbered from `first`; those for which `left_out` returns true are not written.
pub fn rewrite(file: &str, source: &str, first: usize, left_out: &dyn Fn(usize) -> bool) -> syn::Result<Rewritten> {
    let parsed = syn::parse_file(source)?;
    let lines = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let mut finder = Finder { file, source, lines, next: first, mutants: Vec::new(), edits: Vec::new(), left_out };
    finder.visit_file(&parsed);
    let Finder { mutants, mut edits, next, .. } = finder;
    // At the same position, openings are in the order in which they were found (outer before inner), and ends in reverse
    // order (inner before outer).
    edits.sort_by_key(|edit| (edit.range.start, edit.order));
    let (mut text, mut at, mut moved) = (String::new(), 0, Vec::new());
    for edit in &edits {
        text.push_str(&source[at..edit.range.start]);
        moved.push((edit.range.start, text.len(), edit.range.end));
        text.push_str(&edit.text);
        at = edit.range.end;
        moved.push((at, text.len(), at));
    }
    text.push_str(&source[at..]);
    let to_new = |old: usize, last: bool| {
        let known = |place: &&(usize, usize, usize)| if last { place.0 <= old } else { place.0 < old };
        moved.iter().rev().find(known).map_or(old, |(from, to, _)| to + (old - from))
    };
    let places = mutants
        .iter()
        .map(|mutant: &Mutant| (mutant.number, to_new(mutant.place.start, false)..to_new(mutant.place.end, true)));
    Ok(Rewritten { places: places.collect(), text, mutants, next })
}

struct Edit {
    range: Range<usize>,
    order: i64,
    text: String,
}

struct Finder<'a> {
    file: &'a str,
    source: &'a str,
    lines: Vec<usize>,
    next: usize,
    mutants: Vec<Mutant>,
    edits: Vec<Edit>,
    left_out: &'a dyn Fn(usize) -> bool,
}

impl Finder<'_> {
    fn offset(&self, at: LineColumn) -> usize {
        let start = self.lines[at.line - 1];
        let column = self.source[start..].char_indices().nth(at.column).map_or(self.source.len() - start, |(at, _)| at);
        start + column
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.offset(span.start())..self.offset(span.end())
    }

    /// Adds a mutant for each of `whats`. Returns whether they are to be written, and the number of the first.
    fn add(&mut self, span: Span, whats: &[String]) -> (bool, usize) {
        self.add_at(self.range(span), span.start().line, whats)
    }

    fn add_at(&mut self, place: Range<usize>, line: usize, whats: &[String]) -> (bool, usize) {
        let first = self.next;
        self.next += whats.len();
        let wanted = !(first..self.next).any(|number| (self.left_out)(number));
        for (number, what) in (first..).zip(whats).filter(|_| wanted) {
            let (file, what, place) = (self.file.to_owned(), what.clone(), place.clone());
            self.mutants.push(Mutant { number, file, line, what, place });
        }
        (wanted, first)
    }

    fn open(&mut self, at: usize, text: String) {
        let order = 1 + self.edits.len() as i64;
        self.edits.push(Edit { range: at..at, order, text });
    }

    fn close(&mut self, at: usize, text: &str) {
        // Before all openings at the same position; inner ends first.
        let order = -1 - self.edits.len() as i64;
        self.edits.push(Edit { range: at..at, order, text: text.to_owned() });
    }

    fn replace(&mut self, range: Range<usize>, text: &str) {
        self.edits.push(Edit { range, order: i64::MAX, text: text.to_owned() });
    }

    fn text(&self, span: Span) -> String {
        let text: Vec<_> = self.source[self.range(span)].split_whitespace().collect();
        let text = text.join(" ");
        if text.chars().count() > 60 { text.chars().take(60).chain("...".chars()).collect() } else { text }
    }

    fn wrap(&mut self, span: Span, before: String, after: &str) {
        let range = self.range(span);
        self.open(range.start, before);
        self.close(range.end, after);
    }

    /// Replaces the operator by a call of `switch::function`.
    fn operator(&mut self, binary: &ExprBinary, function: &str, whats: &[&str]) {
        let shown = self.text(binary.span());
        let whats: Vec<_> = whats.iter().map(|what| format!("{what}: {shown}")).collect();
        let (wanted, number) = self.add(binary.span(), &whats);
        if !wanted {
            return;
        }
        let (left, right) = match function {
            "eq" | "ne" | "lt" | "le" | "gt" | "ge" => ("&(", "), &("),
            "add_assign" | "sub_assign" => ("&mut (", "), ("),
            _ => ("(", "), ("),
        };
        let operator = self.range(binary.op.span());
        self.wrap(binary.span(), format!("crate::switch::{function}({number}, {left}"), "))");
        self.replace(operator, right);
    }

    /// Mutates `&&` and `||`: each side is removed in turn, so that the other one decides alone.
    fn junction(&mut self, binary: &ExprBinary, before: &str, neutral: &str) {
        let sides = [&*binary.left, &*binary.right];
        if sides.iter().any(|side| has_let(side)) {
            return;
        }
        for side in sides {
            let what = format!("left out of {}: {}", self.text(binary.op.span()), self.text(side.span()));
            let (wanted, number) = self.add(side.span(), &[what]);
            if wanted {
                self.wrap(side.span(), format!("({before}crate::switch::on({number}) {neutral} ("), "))");
            }
        }
    }

    fn body(&mut self, name: &syn::Ident, output: &ReturnType, block: &Block) {
        let defaults = defaults(output);
        if block.stmts.is_empty() || defaults.is_empty() {
            return;
        }
        let whats: Vec<_> = defaults.iter().map(|value| format!("body of {name} replaced by {value}")).collect();
        for (value, what) in defaults.iter().zip(whats) {
            let (place, at) = (self.range(name.span()), self.range(block.brace_token.span.open()).end);
            let (wanted, number) = self.add_at(place.start..at, name.span().start().line, &[what]);
            if wanted {
                self.open(at, format!(" if crate::switch::on({number}) {{ return {value}; }} "));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            // Not mutated: constants, types and macro calls.
            _ => return,
        };
        let shows = |item: &syn::ItemImpl| {
            let last = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
            last.is_some_and(|last| last.ident == "Display" || last.ident == "Debug")
        };
        if attributes.iter().any(|attribute| attribute.path().is_ident("cfg"))
            || matches!(item, Item::Impl(item) if shows(item))
        {
            return;
        }
        visit::visit_item(self, item);
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if function.sig.constness.is_none() {
            self.body(&function.sig.ident, &function.sig.output, &function.block);
            self.visit_block(&function.block);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        let hidden = function.attrs.iter().any(|attribute| attribute.path().is_ident("cfg"));
        if function.sig.constness.is_none() && !hidden {
            self.body(&function.sig.ident, &function.sig.output, &function.block);
            self.visit_block(&function.block);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.body(&function.sig.ident, &function.sig.output, block);
            self.visit_block(block);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if let Stmt::Expr(expression, Some(_)) = statement
            && can_go(expression)
        {
            let what = format!("left out: {}", self.text(statement.span()));
            let (wanted, number) = self.add(statement.span(), &[what]);
            if wanted {
                self.wrap(statement.span(), format!("if !crate::switch::on({number}) {{ "), " }");
            }
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some((_, guard)) = arm.guard.as_ref().filter(|(_, guard)| !has_let(guard)) {
            let shown = self.text(guard.span());
            let whats = [format!("guard true: {shown}"), format!("guard false: {shown}")];
            let (wanted, number) = self.add(guard.span(), &whats);
            if wanted {
                let no = number + 1;
                let before = format!("(crate::switch::on({number}) || !crate::switch::on({no}) && (");
                self.wrap(guard.span(), before, "))");
            }
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_binary(&mut self, binary: &'ast ExprBinary) {
        use BinOp::*;
        let (edge, turned) = ("bound moved", "turned round");
        match binary.op {
            And(_) => self.junction(binary, "", "||"),
            Or(_) => self.junction(binary, "!", "&&"),
            Eq(_) => self.operator(binary, "eq", &["!="]),
            Ne(_) => self.operator(binary, "ne", &["=="]),
            Lt(_) => self.operator(binary, "lt", &[edge, turned]),
            Le(_) => self.operator(binary, "le", &[edge, turned]),
            Gt(_) => self.operator(binary, "gt", &[edge, turned]),
            Ge(_) => self.operator(binary, "ge", &[edge, turned]),
            Add(_) => self.operator(binary, "add", &["-"]),
            Sub(_) => self.operator(binary, "sub", &["+"]),
            Mul(_) => self.operator(binary, "mul", &["/"]),
            Div(_) => self.operator(binary, "div", &["*"]),
            Rem(_) => self.operator(binary, "rem", &["/"]),
            Shl(_) => self.operator(binary, "shl", &[">>"]),
            Shr(_) => self.operator(binary, "shr", &["<<"]),
            BitAnd(_) => self.operator(binary, "and", &["|"]),
            BitOr(_) => self.operator(binary, "or", &["&"]),
            BitXor(_) => self.operator(binary, "xor", &["&"]),
            AddAssign(_) => self.operator(binary, "add_assign", &["-="]),
            SubAssign(_) => self.operator(binary, "sub_assign", &["+="]),
            _ => {}
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast ExprUnary) {
        if let UnOp::Not(not) = &unary.op {
            let what = format!("without !: {}", self.text(unary.span()));
            let (wanted, number) = self.add(unary.span(), &[what]);
            if wanted {
                let (range, end) = (self.range(not.span), self.range(unary.span()).end);
                self.replace(range, &format!("crate::switch::not({number}, "));
                self.close(end, ")");
            }
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_lit(&mut self, literal: &'ast syn::ExprLit) {
        if matches!(literal.lit, Lit::Int(_) | Lit::Float(_)) {
            let shown = self.text(literal.span());
            let (wanted, number) = self.add(literal.span(), &[format!("{shown} + 1"), format!("{shown} - 1")]);
            if wanted {
                self.wrap(literal.span(), format!("crate::switch::literal({number}, "), ")");
            }
        }
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        let Some(name) = path.path.get_ident().map(ToString::to_string) else { return };
        if name.len() > 1 && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
            let whats = [format!("twice {name}"), format!("half of {name}")];
            let (wanted, number) = self.add(path.span(), &whats);
            if wanted {
                self.wrap(path.span(), format!("crate::switch::constant({number}, "), ")");
            }
        }
    }

    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        // The arguments, but not the function.
        call.args.iter().for_each(|argument| self.visit_expr(argument));
    }

    // Not mutated: constants, and syntax that contains only constants.
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_type(&mut self, _: &'ast Type) {}
    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_member(&mut self, _: &'ast Member) {}
}

/// Whether a statement can be removed: a call, or an assignment other than to `_`. `drop` is not removed, because tests cannot
/// detect a lock that is released later.
fn can_go(expression: &Expr) -> bool {
    match expression {
        Expr::Call(call) => !matches!(&*call.func, Expr::Path(path) if path.path.is_ident("drop")),
        Expr::MethodCall(_) => true,
        Expr::Await(awaited) => can_go(&awaited.base),
        Expr::Try(tried) => can_go(&tried.expr),
        Expr::Assign(assign) => !matches!(&*assign.left, Expr::Infer(_)),
        _ => false,
    }
}

fn has_let(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

/// The values that a function may return instead of its result, where they are obvious from the type.
fn defaults(output: &ReturnType) -> Vec<&'static str> {
    let ReturnType::Type(_, output) = output else { return vec!["()"] };
    let Type::Path(path) = &**output else {
        return if matches!(&**output, Type::Tuple(tuple) if tuple.elems.is_empty()) { vec!["()"] } else { vec![] };
    };
    let Some(last) = path.path.segments.last() else { return vec![] };
    let first_argument = match &last.arguments {
        syn::PathArguments::AngleBracketed(arguments) => arguments.args.first(),
        _ => None,
    };
    let is_unit = |argument: &syn::GenericArgument| matches!(argument, syn::GenericArgument::Type(Type::Tuple(tuple)) if tuple.elems.is_empty());
    match last.ident.to_string().as_str() {
        "bool" => vec!["true", "false"],
        "Option" => vec!["None"],
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => vec!["0", "1"],
        "Duration" => vec!["Default::default()"],
        "Vec" => vec!["Vec::new()"],
        "Result" if first_argument.is_some_and(is_unit) => vec!["Ok(())"],
        _ => vec![],
    }
}
