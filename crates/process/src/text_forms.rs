//! Owns PostgreSQL's text forms of values that have parts: bytes and arrays, as SQL, COPY and parameters write them.

/// Bytes from `\x` and hexadecimal digits, or from text with `\\` and octal escapes; `None` when it is neither.
pub fn bytes_of(text: &str) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix("\\x") {
        let digit = |byte: &u8| (*byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = digits.as_bytes().chunks(2);
        return pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
        } else if let Some(after) = rest.strip_prefix(b"\\") {
            out.push(b'\\');
            rest = after;
        } else {
            let octal = std::str::from_utf8(rest.get(..3)?).ok()?;
            out.push(u8::from_str_radix(octal, 8).ok()?);
            rest = &rest[3..];
        }
    }
    Some(out)
}

/// The items of `{1,NULL,"a b"}`, an array of one dimension, `None` for NULL; or what is wrong with it.
pub fn items_of(text: &str) -> Result<Vec<Option<String>>, &'static str> {
    let inner = text.trim().strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
    let inner = inner.ok_or("it must stand between { and }")?;
    let mut items = Vec::new();
    let mut characters = inner.chars().peekable();
    while characters.peek().is_some() {
        let (mut item, mut quoted, mut in_quotes, mut more) = (String::new(), false, false, false);
        while let Some(character) = characters.next() {
            match character {
                '"' => (quoted, in_quotes) = (true, !in_quotes),
                '\\' => item.extend(characters.next()),
                ',' if !in_quotes => {
                    more = true;
                    break;
                }
                '{' | '}' if !in_quotes => return Err("arrays in arrays are not supported"),
                other => item.push(other),
            }
        }
        if in_quotes {
            return Err("a quote is not closed");
        }
        if more && characters.peek().is_none() {
            return Err("an item is missing after the last comma");
        }
        let null = !quoted && item.trim().eq_ignore_ascii_case("null");
        items.push((!null).then(|| if quoted { item } else { item.trim().to_owned() }));
    }
    Ok(items)
}
