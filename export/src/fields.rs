//! One column of a block of rows, as COPY sends it.

/// A column's fields in a block of whole rows of a binary COPY.
pub(crate) struct Fields<'a> {
    data: &'a [u8],
    /// Where each field of each row begins, with its length; rows one after the other.
    begins: &'a [u32],
    columns: usize,
    column: usize,
}

impl<'a> Fields<'a> {
    /// A column, by number, of the rows whose fields begin at `begins` in `data`.
    pub(crate) fn new(data: &'a [u8], begins: &'a [u32], columns: usize, column: usize) -> Self {
        Self { data, begins, columns, column }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.begins.len().checked_div(self.columns).unwrap_or_default()
    }

    /// Each row's field: its bytes, `None` for NULL.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let data = self.data;
        let begins = self.begins.get(self.column..).unwrap_or_default();
        begins.iter().step_by(self.columns).map(move |begin| {
            let (length, rest) = data[*begin as usize..].split_first_chunk().expect("the rows are whole");
            usize::try_from(i32::from_be_bytes(*length)).ok().map(|length| &rest[..length])
        })
    }
}
