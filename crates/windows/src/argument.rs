//! Owns a call's arguments: by position and by name, and where the keys of PARTITION BY end.

use datafusion::error::Result;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned, TableFactor,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::call::function;
use crate::spelling::KEYS;
use crate::{Error, Function};

/// A call's arguments, none of them planned.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub function: Function,
    /// The table or query.
    pub data: SqlExpr,
    /// The keys of PARTITION BY.
    pub keys: Vec<SqlExpr>,
    /// The timestamp column, without DESCRIPTOR.
    pub time: SqlExpr,
    /// As many as [`Function::intervals`] has.
    pub intervals: Vec<SqlExpr>,
    pub offset: Option<SqlExpr>,
}

/// The arguments of a call in its canonical form; `None` for what is no call.
pub(crate) fn arguments(factor: &TableFactor) -> Result<Option<Arguments>> {
    let Some(function) = function(factor) else { return Ok(None) };
    let TableFactor::Table { name, args: Some(args), with_ordinality, sample, .. } = factor else { return Ok(None) };
    let wrong = |cause: String| Error::Arguments { function, cause }.with_span(name.span());
    if *with_ordinality || sample.is_some() {
        return Err(wrong("WITH ORDINALITY and TABLESAMPLE do not go with it".to_owned()));
    }
    let mut slots = Slots::new(function);
    for arg in &args.args {
        slots.take(arg)?;
    }
    slots.finish().map(Some).map_err(wrong)
}

/// The name that an argument is given by, in lower case unless it is quoted.
pub(crate) fn name_of(arg: &FunctionArg) -> Option<String> {
    let ident = match arg {
        FunctionArg::Named { name, .. } | FunctionArg::ExprNamed { name: SqlExpr::Identifier(name), .. } => name,
        _ => return None,
    };
    Some(if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() })
}

/// Arguments as they are read.
struct Slots {
    function: Function,
    /// `data`, `timecol`, the intervals, `offset`: each with its value.
    slots: Vec<(&'static str, Option<SqlExpr>)>,
    keys: Vec<SqlExpr>,
    among_keys: bool,
    after_name: bool,
    given: usize,
}

impl Slots {
    fn new(function: Function) -> Self {
        let mut names = vec!["data", "timecol"];
        names.extend(function.intervals());
        if function != Function::Session {
            names.push("offset");
        }
        let slots = names.into_iter().map(|name| (name, None)).collect();
        Self { function, slots, keys: vec![], among_keys: false, after_name: false, given: 0 }
    }

    fn take(&mut self, arg: &FunctionArg) -> Result<()> {
        let function = self.function;
        let wrong = |span: Span, cause: String| Err(Error::Arguments { function, cause }.with_span(span));
        let (FunctionArg::Unnamed(value)
        | FunctionArg::Named { arg: value, .. }
        | FunctionArg::ExprNamed { arg: value, .. }) = arg;
        let FunctionArgExpr::Expr(value) = value else {
            return wrong(arg.span(), format!("{arg} cannot be an argument"));
        };
        let name = name_of(arg);
        match name.as_deref() {
            Some(KEYS) if function == Function::Session => {
                self.among_keys = true;
                self.keys.push(value.clone());
            }
            Some(KEYS) => {
                let cause = "it takes no PARTITION BY, since its windows are the same for every key: put the keys into \
                             GROUP BY";
                return wrong(arg.span(), cause.to_owned());
            }
            Some(name) => {
                (self.among_keys, self.after_name) = (false, true);
                self.given += 1;
                let known = self.slots.iter().map(|(slot, _)| slot.to_uppercase()).collect::<Vec<_>>().join(", ");
                match self.slots.iter_mut().find(|(slot, _)| *slot == name) {
                    Some((_, slot @ None)) => *slot = Some(value.clone()),
                    Some(_) => return wrong(arg.span(), format!("{} is given twice", name.to_uppercase())),
                    None => {
                        let cause = format!("it has no argument {:?}, its arguments are {known}", name.to_uppercase());
                        return wrong(arg.span(), cause);
                    }
                }
            }
            None if matches!(arg, FunctionArg::ExprNamed { .. }) => {
                return wrong(arg.span(), format!("{arg} cannot be an argument"));
            }
            None if self.among_keys => self.keys.push(value.clone()),
            None if self.after_name => {
                return wrong(arg.span(), "an argument without a name stands behind one with a name".to_owned());
            }
            None => {
                self.given += 1;
                if let Some((_, slot)) = self.slots.iter_mut().find(|(_, slot)| slot.is_none()) {
                    *slot = Some(value.clone());
                }
            }
        }
        Ok(())
    }

    /// The arguments, or what is wrong with their number.
    fn finish(mut self) -> Result<Arguments, String> {
        // By position nothing marks the last key: what follows the keys has a fixed length.
        if self.among_keys && self.keys.len() > 2 && self.slots[1..].iter().all(|(_, slot)| slot.is_none()) {
            let tail = self.keys.split_off(self.keys.len() - 2);
            self.given += tail.len();
            self.slots[1..].iter_mut().zip(tail).for_each(|((_, slot), value)| *slot = Some(value));
        }
        let missing = self.slots.iter().find(|(name, slot)| slot.is_none() && *name != "offset");
        if self.given > self.slots.len() || missing.is_some() {
            let given = match self.given {
                1 => "1 argument is given".to_owned(),
                n => format!("{n} arguments are given"),
            };
            return Err(match missing.filter(|_| self.given <= self.slots.len()) {
                Some((name, _)) => format!("{given} and {} is missing", spoken(name)),
                None => format!("{given}, more than it takes"),
            });
        }
        let mut values = self.slots.into_iter().map(|(_, slot)| slot);
        let mut next = || values.next().flatten();
        let (Some(data), Some(time)) = (next(), next()) else { return Err("arguments are missing".to_owned()) };
        let intervals = (0..self.function.intervals().len()).filter_map(|_| next()).collect();
        let keys = self.keys.into_iter().flat_map(listed).collect();
        Ok(Arguments { function: self.function, data, keys, time: described(time), intervals, offset: next() })
    }
}

fn spoken(slot: &str) -> String {
    match slot {
        "data" => "the table".to_owned(),
        "timecol" => "the timestamp column".to_owned(),
        interval => format!("the {interval}"),
    }
}

/// The keys in `(a, b)`.
fn listed(key: SqlExpr) -> Vec<SqlExpr> {
    match key {
        SqlExpr::Tuple(keys) => keys,
        SqlExpr::Nested(key) => vec![*key],
        key => vec![key],
    }
}

/// The column in `DESCRIPTOR(column)`.
fn described(expr: SqlExpr) -> SqlExpr {
    if let SqlExpr::Function(call) = &expr
        && call.name.to_string().eq_ignore_ascii_case("descriptor")
        && let FunctionArguments::List(list) = &call.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] = list.args.as_slice()
    {
        return column.clone();
    }
    expr
}
