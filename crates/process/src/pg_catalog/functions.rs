//! Owns PostgreSQL's information functions that the catalog crate does not bring.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;

use super::POSTGRES_VERSION;

/// Adds the functions to a context.
pub(super) fn register(ctx: &SessionContext) {
    for (name, arguments, value) in constants() {
        ctx.register_udf(ScalarUDF::from(Constant::new(name, arguments, value)));
    }
    ctx.register_udf(ScalarUDF::from(CurrentSetting::new()));
    ctx.register_udf(ScalarUDF::from(SetConfig::new()));
}

/// Functions of any arguments up to a number, and the one answer they give.
fn constants() -> Vec<(&'static str, usize, ScalarValue)> {
    let text = |value: &str| ScalarValue::Utf8(Some(value.to_owned()));
    let (no_text, no_number) = (ScalarValue::Utf8(None), ScalarValue::Int64(None));
    let (yes, no) = (ScalarValue::Boolean(Some(true)), ScalarValue::Boolean(Some(false)));
    vec![
        ("version", 0, text(&format!("PostgreSQL {POSTGRES_VERSION} (Millstream)"))),
        ("pg_is_in_recovery", 0, no),
        ("pg_my_temp_schema", 0, ScalarValue::Int32(Some(0))),
        // Every name is found without its schema.
        ("pg_function_is_visible", 1, yes.clone()),
        ("pg_type_is_visible", 1, yes.clone()),
        ("pg_operator_is_visible", 1, yes.clone()),
        ("pg_collation_is_visible", 1, yes.clone()),
        ("has_function_privilege", 3, yes.clone()),
        ("has_column_privilege", 4, yes),
        // Nothing here has what these describe.
        ("shobj_description", 2, no_text.clone()),
        ("pg_get_triggerdef", 2, no_text.clone()),
        ("pg_get_ruledef", 2, no_text.clone()),
        ("pg_get_functiondef", 1, no_text.clone()),
        ("pg_get_function_result", 1, no_text.clone()),
        ("pg_get_function_sqlbody", 1, no_text.clone()),
        ("pg_get_function_arguments", 1, text("")),
        ("pg_get_function_identity_arguments", 1, text("")),
        ("pg_get_serial_sequence", 2, no_text.clone()),
        ("pg_tablespace_location", 1, no_text.clone()),
        ("pg_size_pretty", 1, no_text),
        ("pg_table_size", 1, no_number.clone()),
        ("pg_indexes_size", 1, no_number),
        ("to_regtype", 1, ScalarValue::Int32(None)),
    ]
}

/// A function that gives the same answer for every argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl Constant {
    fn new(name: &'static str, arguments: usize, value: ScalarValue) -> Self {
        let signature = match arguments {
            0 => Signature::nullary(Volatility::Stable),
            _ => Signature::one_of((1..=arguments).map(TypeSignature::Any).collect(), Volatility::Stable),
        };
        Self { name, value, signature }
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `current_setting(name [, missing_ok])`, of the settings that are the same for every session.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    signature: Signature,
}

const SETTINGS: [(&str, &str); 9] = [
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("integer_datetimes", "on"),
    ("search_path", "public"),
    ("server_encoding", "UTF8"),
    ("server_version", POSTGRES_VERSION),
    ("server_version_num", "160006"),
    ("standard_conforming_strings", "on"),
    ("timezone", "UTC"),
];

impl CurrentSetting {
    fn new() -> Self {
        let forms = vec![
            TypeSignature::Exact(vec![DataType::Utf8]),
            TypeSignature::Exact(vec![DataType::Utf8, DataType::Boolean]),
            // With the search path in front.
            TypeSignature::Exact(vec![DataType::Utf8, DataType::Utf8]),
            TypeSignature::Exact(vec![DataType::Utf8, DataType::Utf8, DataType::Boolean]),
        ];
        Self { signature: Signature::one_of(forms, Volatility::Stable) }
    }
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let with_path = args.args.get(1).is_some_and(|second| second.data_type() == DataType::Utf8);
        let names = args.args[usize::from(with_path)].to_array(args.number_rows)?;
        let path = args.args[0].to_array(args.number_rows)?;
        let path = path.as_string::<i32>().iter().flatten().next().filter(|_| with_path);
        let value = |name: &str| match path.filter(|_| name.eq_ignore_ascii_case("search_path")) {
            Some(path) => Some(path.replace(',', ", ")),
            None => {
                let known = SETTINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                known.map(|(_, value)| (*value).to_owned())
            }
        };
        let values: StringArray = names.as_string::<i32>().iter().map(|name| name.and_then(value)).collect();
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}

/// `set_config(name, value, is_local)`, which drivers send at the start: it answers the value and sets nothing, since
/// what they set changes no answer here.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SetConfig {
    signature: Signature,
}

impl SetConfig {
    fn new() -> Self {
        let form = vec![DataType::Utf8, DataType::Utf8, DataType::Boolean];
        Self { signature: Signature::exact(form, Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for SetConfig {
    fn name(&self) -> &str {
        "set_config"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(args.args[1].clone())
    }
}
