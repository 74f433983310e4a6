//! A module of the mutated copy: which mutant is on, and what each kind of mutant does. Never part of the crate itself.

use std::{
    cmp::Ordering,
    io::Write as _,
    ops::{Add, AddAssign, BitAnd, BitOr, BitXor, Div, Mul, Not, Rem, Shl, Shr, Sub, SubAssign},
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

static ACTIVE: LazyLock<usize> = LazyLock::new(|| number("MUTANT"));

/// The file to which the numbers of the reached mutants are written, if requested.
static LOG: LazyLock<Option<Mutex<std::fs::File>>> = LazyLock::new(|| {
    let path = std::env::var_os("MUTANTS_REACHED")?;
    std::fs::OpenOptions::new().append(true).create(true).open(path).ok().map(Mutex::new)
});

static REACHED: [AtomicBool; MOST] = [const { AtomicBool::new(false) }; MOST];
const MOST: usize = 20_000;

fn number(name: &str) -> usize {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Whether mutant `n` is on.
pub(crate) fn on(n: usize) -> bool {
    if let Some(log) = &*LOG {
        if !REACHED[n].swap(true, Relaxed) {
            _ = log.lock().map(|mut log| log.write_all(format!("{n}\n").as_bytes()));
        }
    }
    *ACTIVE == n
}

macro_rules! binary {
    ($($name:ident $trait:ident $method:ident $other:ident $other_method:ident),*) => {$(
        pub(crate) fn $name<A, B>(n: usize, a: A, b: B) -> <A as $trait<B>>::Output
        where A: $trait<B> + $other<B, Output = <A as $trait<B>>::Output> {
            if on(n) { a.$other_method(b) } else { a.$method(b) }
        }
    )*};
}

binary!(
    add Add add Sub sub, sub Sub sub Add add, mul Mul mul Div div, div Div div Mul mul, rem Rem rem Div div,
    shl Shl shl Shr shr, shr Shr shr Shl shl, and BitAnd bitand BitOr bitor, or BitOr bitor BitAnd bitand,
    xor BitXor bitxor BitAnd bitand
);

pub(crate) fn add_assign<A: AddAssign<B> + SubAssign<B>, B>(n: usize, a: &mut A, b: B) {
    if on(n) { *a -= b } else { *a += b }
}

pub(crate) fn sub_assign<A: AddAssign<B> + SubAssign<B>, B>(n: usize, a: &mut A, b: B) {
    if on(n) { *a += b } else { *a -= b }
}

pub(crate) fn not<A: Not<Output = A>>(n: usize, a: A) -> A {
    if on(n) { a } else { !a }
}

pub(crate) fn eq<A: PartialEq<B> + ?Sized, B: ?Sized>(n: usize, a: &A, b: &B) -> bool {
    (a == b) != on(n)
}

pub(crate) fn ne<A: PartialEq<B> + ?Sized, B: ?Sized>(n: usize, a: &A, b: &B) -> bool {
    (a != b) != on(n)
}

/// Mutant `n` moves the bound by one, and mutant `n + 1` negates the comparison.
macro_rules! ordered {
    ($($name:ident $plain:tt $edge:tt $turned:tt),*) => {$(
        pub(crate) fn $name<A: PartialOrd<B> + ?Sized, B: ?Sized>(n: usize, a: &A, b: &B) -> bool {
            let order: Option<Ordering> = a.partial_cmp(b);
            let against = |wanted: fn(Ordering) -> bool| order.is_some_and(wanted);
            match (on(n), on(n + 1)) {
                (true, _) => against(|order| (order as i8) $edge 0),
                (_, true) => against(|order| (order as i8) $turned 0),
                _ => against(|order| (order as i8) $plain 0),
            }
        }
    )*};
}

ordered!(lt < <= >=, le <= < >, gt > >= <=, ge >= > <);

/// Mutants of a literal: one more, and one less.
pub(crate) fn literal<T: Number>(n: usize, value: T) -> T {
    if on(n) { value.more() } else if on(n + 1) { value.less() } else { value }
}

/// Mutants of a constant: doubled, and halved.
pub(crate) fn constant<T: Number>(n: usize, value: T) -> T {
    if on(n) { value.twice() } else if on(n + 1) { value.half() } else { value }
}

pub(crate) trait Number {
    fn more(self) -> Self;
    fn less(self) -> Self;
    fn twice(self) -> Self;
    fn half(self) -> Self;
}

macro_rules! numbers {
    ($($number:ty)*) => {$(impl Number for $number {
        fn more(self) -> Self { self.wrapping_add(1) }
        fn less(self) -> Self { self.wrapping_sub(1) }
        fn twice(self) -> Self { self.wrapping_mul(2) }
        fn half(self) -> Self { self / 2 }
    })*};
}

numbers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize u128);

impl Number for f64 {
    fn more(self) -> Self { self + 1.0 }
    fn less(self) -> Self { self - 1.0 }
    fn twice(self) -> Self { self * 2.0 }
    fn half(self) -> Self { self / 2.0 }
}

impl Number for Duration {
    fn more(self) -> Self { self }
    fn less(self) -> Self { self }
    fn twice(self) -> Self { self * 2 }
    fn half(self) -> Self { self / 2 }
}
