//! Owns how doubles that JSON has no numbers for stand in it: as texts, `"NaN"` and `"-Infinity"`.

use arrow::array::{Array, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder};

/// The encoder of an array in which there are such doubles.
pub(in crate::files) fn beyond_json(array: &dyn Array) -> Result<Option<NullableEncoder<'static>>, ArrowError> {
    if !array.data_type().is_floating() {
        return Ok(None);
    }
    let doubles = cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone();
    if doubles.iter().flatten().all(f64::is_finite) {
        return Ok(None);
    }
    let nulls = doubles.nulls().cloned();
    let single = *array.data_type() != DataType::Float64;
    Ok(Some(NullableEncoder::new(Box::new(Doubles { doubles, single }), nulls)))
}

/// Writes such doubles, and everything else as it is written anyway.
#[derive(Debug)]
pub(super) struct DoublesAsTexts;

impl EncoderFactory for DoublesAsTexts {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        beyond_json(array)
    }
}

struct Doubles {
    doubles: Float64Array,
    /// Whether they were of single precision.
    single: bool,
}

impl Encoder for Doubles {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.doubles.value(row);
        let text = match value {
            _ if value.is_nan() => "\"NaN\"".to_owned(),
            f64::INFINITY => "\"Infinity\"".to_owned(),
            f64::NEG_INFINITY => "\"-Infinity\"".to_owned(),
            _ if self.single => format!("{:?}", value as f32),
            _ => format!("{value:?}"),
        };
        out.extend_from_slice(text.as_bytes());
    }
}
