//! Which types a column may be widened to when its values outgrow it: those that hold every value it has had, as
//! Databricks lists them for `addNewColumnsWithTypeWidening`. Knows nothing of files and tables.

use arrow::datatypes::{DataType, TimeUnit};

use crate::column::Data;
use crate::scalar::Number;
use crate::typed::decimal_digits;

/// The type for a column of type `known` in which values of type `learnt` were met; None where `known` must stay: it
/// holds them already, or no wider type is in the list.
pub fn wider_type(known: &DataType, learnt: &DataType) -> Option<DataType> {
    use DataType as T;
    let wider = match (known, learnt) {
        (T::Int8 | T::Int16 | T::Int32, T::Int16 | T::Int32 | T::Int64) => {
            if known.primitive_width() >= learnt.primitive_width() {
                return None;
            }
            learnt.clone()
        }
        (T::Int8 | T::Int16 | T::Int32 | T::Float32, T::Float64) => T::Float64,
        (T::Int8 | T::Int16 | T::Int32 | T::Int64, T::Decimal128(_, _)) | (T::Decimal128(_, _), _) => {
            let ((known, known_behind), (learnt, learnt_behind)) = (decimal_digits(known)?, decimal_digits(learnt)?);
            let behind = known_behind.max(learnt_behind);
            let before = (i32::from(known) - i32::from(known_behind)).max(i32::from(learnt) - i32::from(learnt_behind));
            let precision = u8::try_from(before + i32::from(behind)).ok().filter(|precision| *precision <= 38)?;
            T::Decimal128(precision, behind)
        }
        // Only files that know their types tell one from the other.
        (T::Date32, T::Timestamp(TimeUnit::Microsecond, None)) => learnt.clone(),
        _ => return None,
    };
    (wider != *known).then_some(wider)
}

impl Data {
    /// Whether `text`, which does not fit the column, is a number that a wider type might hold.
    pub fn wants_wider(&self, text: &[u8]) -> bool {
        let number = matches!(self, Data::I8(_) | Data::I16(_) | Data::I32(_) | Data::I64(_) | Data::Decimal { .. });
        number && Number::read(text.trim_ascii()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_the_list() {
        use DataType as T;
        let decimal = |precision, scale| T::Decimal128(precision, scale);
        for (known, learnt, wider) in [
            (T::Int32, T::Int64, Some(T::Int64)),
            (T::Int8, T::Int16, Some(T::Int16)),
            (T::Int64, T::Int32, None),
            (T::Int32, T::Float64, Some(T::Float64)),
            (T::Int64, T::Float64, None),
            (T::Float32, T::Float64, Some(T::Float64)),
            (T::Int32, decimal(5, 2), Some(decimal(12, 2))),
            (T::Int64, decimal(2, 1), Some(decimal(21, 1))),
            (decimal(5, 2), decimal(6, 3), Some(decimal(6, 3))),
            (decimal(5, 2), decimal(4, 3), Some(decimal(6, 3))),
            (decimal(5, 2), decimal(4, 1), None),
            (decimal(3, 1), T::Int64, Some(decimal(21, 1))),
            (decimal(38, 0), decimal(3, 2), None),
            (decimal(5, 2), T::Float64, None),
            (T::Date32, T::Timestamp(TimeUnit::Microsecond, None), Some(T::Timestamp(TimeUnit::Microsecond, None))),
            (T::Date32, T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), None),
            (T::Int32, T::Utf8, None),
            (T::Boolean, T::Int64, None),
        ] {
            assert_eq!(wider_type(&known, &learnt), wider, "{known} and {learnt}");
        }
    }
}
