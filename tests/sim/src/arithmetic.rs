//! What atomic operations compute, as fi_atomic(3) says: written a second time, apart from the engine, to judge it by.

use rdgram_engine::{AtomicOp, Datatype};

/// Applies an operation to each element of `target`: `operand` and `compare` hold as many, or nothing when the operation takes none. Returns what was there before.
pub fn apply(
    operation: AtomicOp,
    datatype: Datatype,
    target: &mut [u8],
    operand: &[u8],
    compare: &[u8],
) -> Vec<u8> {
    let before = target.to_vec();
    let size = datatype.size();
    for at in (0..target.len()).step_by(size) {
        let old = &before[at..at + size];
        let operand = operand.get(at..at + size).unwrap_or(old);
        let compare = compare.get(at..at + size).unwrap_or(old);
        let new = element(operation, datatype, old, operand, compare);
        target[at..at + size].copy_from_slice(&new);
    }
    before
}

/// Whether two values are equal, as C compares them.
fn equal(datatype: Datatype, one: &[u8], other: &[u8]) -> bool {
    match class(datatype) {
        Class::Signed | Class::Unsigned => one == other,
        Class::Real | Class::Complex => numbers(datatype, one)
            .iter()
            .zip(numbers(datatype, other))
            .all(|(one, other)| one.partial_cmp(&other) == Some(core::cmp::Ordering::Equal)),
    }
}

fn element(operation: AtomicOp, datatype: Datatype, old: &[u8], operand: &[u8], compare: &[u8]) -> Vec<u8> {
    let swap = |condition: bool| if condition { operand.to_vec() } else { old.to_vec() };
    match operation {
        AtomicOp::Read => old.to_vec(),
        AtomicOp::Write => operand.to_vec(),
        AtomicOp::Cswap => swap(equal(datatype, compare, old)),
        AtomicOp::CswapNe => swap(!equal(datatype, compare, old)),
        AtomicOp::Min => swap(less(datatype, operand, old)),
        AtomicOp::Max => swap(less(datatype, old, operand)),
        AtomicOp::CswapLt => swap(less(datatype, compare, old)),
        AtomicOp::CswapGt => swap(less(datatype, old, compare)),
        AtomicOp::CswapLe => swap(less(datatype, compare, old) || equal(datatype, compare, old)),
        AtomicOp::CswapGe => swap(less(datatype, old, compare) || equal(datatype, compare, old)),
        AtomicOp::Bor => bits(old, operand, |a, b| a | b),
        AtomicOp::Band => bits(old, operand, |a, b| a & b),
        AtomicOp::Bxor => bits(old, operand, |a, b| a ^ b),
        AtomicOp::Mswap => {
            let kept = bits(old, compare, |a, b| a & !b);
            bits(&kept, &bits(operand, compare, |a, b| a & b), |a, b| a | b)
        }
        AtomicOp::Lor => truth(datatype, is_true(datatype, old) || is_true(datatype, operand)),
        AtomicOp::Land => truth(datatype, is_true(datatype, old) && is_true(datatype, operand)),
        AtomicOp::Lxor => truth(datatype, is_true(datatype, old) != is_true(datatype, operand)),
        AtomicOp::Sum => compute(datatype, old, operand, false),
        AtomicOp::Prod => compute(datatype, old, operand, true),
    }
}

fn bits(one: &[u8], other: &[u8], each: impl Fn(u8, u8) -> u8) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| each(*one, *other)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Signed,
    Unsigned,
    Real,
    Complex,
}

fn class(datatype: Datatype) -> Class {
    use Datatype::*;
    match datatype {
        Int8 | Int16 | Int32 | Int64 | Int128 => Class::Signed,
        Uint8 | Uint16 | Uint32 | Uint64 | Uint128 => Class::Unsigned,
        Float | Double => Class::Real,
        FloatComplex | DoubleComplex => Class::Complex,
        LongDouble | LongDoubleComplex => {
            unreachable!("nothing here computes with it, and the workload issues none")
        }
    }
}

/// An integer of any width, with its sign.
fn integer(datatype: Datatype, bytes: &[u8]) -> i128 {
    let negative = class(datatype) == Class::Signed && bytes.last().is_some_and(|top| top & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide[..bytes.len()].copy_from_slice(bytes);
    i128::from_le_bytes(wide)
}

/// An integer of any width, without a sign.
fn magnitude(datatype: Datatype, bytes: &[u8]) -> u128 {
    u128::from_le_bytes(integer(datatype, bytes).to_le_bytes())
}

/// The real numbers of a floating-point value: two of a complex one. Every `float` is a `double`.
fn numbers(datatype: Datatype, bytes: &[u8]) -> Vec<f64> {
    let single = matches!(datatype, Datatype::Float | Datatype::FloatComplex);
    bytes
        .chunks(if single { 4 } else { 8 })
        .map(|chunk| match *chunk {
            [a, b, c, d] => f64::from(f32::from_le_bytes([a, b, c, d])),
            _ => f64::from_le_bytes(chunk.try_into().expect("eight bytes")),
        })
        .collect()
}

fn less(datatype: Datatype, one: &[u8], other: &[u8]) -> bool {
    match class(datatype) {
        Class::Unsigned => magnitude(datatype, one) < magnitude(datatype, other),
        Class::Signed => integer(datatype, one) < integer(datatype, other),
        Class::Real | Class::Complex => numbers(datatype, one)[0] < numbers(datatype, other)[0],
    }
}

fn is_true(datatype: Datatype, bytes: &[u8]) -> bool {
    match class(datatype) {
        Class::Signed | Class::Unsigned => bytes.iter().any(|byte| *byte != 0),
        Class::Real | Class::Complex => numbers(datatype, bytes).iter().any(|number| *number != 0.0),
    }
}

fn truth(datatype: Datatype, is_true: bool) -> Vec<u8> {
    let one = f64::from(u8::from(is_true));
    let mut bytes = match class(datatype) {
        Class::Signed | Class::Unsigned => vec![u8::from(is_true)],
        Class::Real | Class::Complex => to_bytes(datatype, &[one]),
    };
    bytes.resize(datatype.size(), 0);
    bytes
}

#[allow(clippy::cast_possible_truncation, reason = "values of a type are computed in that type")]
fn to_bytes(datatype: Datatype, numbers: &[f64]) -> Vec<u8> {
    let single = matches!(datatype, Datatype::Float | Datatype::FloatComplex);
    let each = |number: &f64| {
        if single { (*number as f32).to_le_bytes().to_vec() } else { number.to_le_bytes().to_vec() }
    };
    numbers.iter().flat_map(each).collect()
}

/// Sum or product. Of two `float`s the exact result, or its sum of two products, is rounded in each step as the type rounds it.
#[allow(clippy::cast_possible_truncation, reason = "rounding to the type is the point")]
fn compute(datatype: Datatype, old: &[u8], operand: &[u8], product: bool) -> Vec<u8> {
    if matches!(class(datatype), Class::Signed | Class::Unsigned) {
        let (old_value, value) = (integer(datatype, old), integer(datatype, operand));
        let result = if product { old_value.wrapping_mul(value) } else { old_value.wrapping_add(value) };
        return result.to_le_bytes()[..old.len()].to_vec();
    }
    let single = matches!(datatype, Datatype::Float | Datatype::FloatComplex);
    let round = |number: f64| if single { f64::from(number as f32) } else { number };
    let (a, b) = (numbers(datatype, old), numbers(datatype, operand));
    let result = match (&a[..], &b[..], product) {
        ([a], [b], true) => vec![a * b],
        ([a, ai], [b, bi], true) => vec![round(a * b) - round(ai * bi), round(a * bi) + round(ai * b)],
        _ => a.iter().zip(&b).map(|(a, b)| a + b).collect(),
    };
    to_bytes(datatype, &result)
}

/// Whether two results are the same: NaNs of any kind are.
pub fn same(datatype: Datatype, one: &[u8], other: &[u8]) -> bool {
    if matches!(class(datatype), Class::Signed | Class::Unsigned) {
        return one == other;
    }
    let (one, other) = (numbers(datatype, one), numbers(datatype, other));
    one.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(operation: AtomicOp, datatype: Datatype, old: &[u8], operand: &[u8], compare: &[u8]) -> Vec<u8> {
        let mut target = old.to_vec();
        assert_eq!(apply(operation, datatype, &mut target, operand, compare), old);
        target
    }

    #[test]
    fn integers_wrap_and_keep_their_sign() {
        let minus = |value: i16| value.to_le_bytes();
        assert_eq!(one(AtomicOp::Sum, Datatype::Int16, &minus(i16::MAX), &minus(1), &[]), minus(i16::MIN));
        assert_eq!(one(AtomicOp::Prod, Datatype::Int16, &minus(-4), &minus(6), &[]), minus(-24));
        assert_eq!(one(AtomicOp::Min, Datatype::Int16, &minus(2), &minus(-3), &[]), minus(-3));
        assert_eq!(one(AtomicOp::Min, Datatype::Uint16, &minus(2), &minus(-3), &[]), minus(2));
        assert_eq!(one(AtomicOp::Max, Datatype::Uint128, &[1; 16], &[0xff; 16], &[]), [0xff; 16]);
        assert_eq!(one(AtomicOp::Max, Datatype::Int128, &[1; 16], &[0xff; 16], &[]), [1; 16]);
    }

    #[test]
    fn swaps_look_at_what_is_there() {
        let swap = |operation, old, compare| one(operation, Datatype::Int8, &[old], &[9], &[compare])[0];
        assert_eq!([swap(AtomicOp::Cswap, 5, 5), swap(AtomicOp::Cswap, 5, 4)], [9, 5]);
        assert_eq!([swap(AtomicOp::CswapLe, 5, 5), swap(AtomicOp::CswapLe, 5, 6)], [9, 5]);
        assert_eq!([swap(AtomicOp::CswapGt, 5, 6), swap(AtomicOp::CswapGt, 5, 5)], [9, 5]);
        assert_eq!(
            one(AtomicOp::Mswap, Datatype::Uint16, &[0x34, 0x12], &[0xcd, 0xab], &[0xf0, 0x0f]),
            [0xc4, 0x1b]
        );
    }

    #[test]
    fn complex_numbers_multiply_as_such() {
        let number = |real: f32, imaginary: f32| [real.to_le_bytes(), imaginary.to_le_bytes()].concat();
        let product = one(AtomicOp::Prod, Datatype::FloatComplex, &number(1.0, 2.0), &number(3.0, -1.0), &[]);
        assert_eq!(product, number(5.0, 5.0));
    }
}
