//! What an index is made of, and the design document that says so.
//!
//! CouchDB has an index as a view whose map is `{"fields", "partial_filter_selector"}`
//! (`mango_idx_view.erl`). A view of such a document that is none is passed over, as there.

use std::borrow::Cow;

use super::{DESIGN, order_name, order_named, tombstone};
use crate::doc::{
    BlobHasher, Body, DocId, Document, FieldPath, Json, Selector, SelectorError, collate, values,
};
use crate::limits::Limits;
use crate::store::backend::{IndexKey, Order};
use crate::store::find::FindError;

/// Bytes of an entry's key. Longer ones are cut: documents whose values agree so far stand in the
/// order of their ids.
const KEY_BYTES_MAX: usize = 4096;
/// The bytes of an id that is made for a design document.
const AUTO_NAME_CHARS: usize = 40;

/// A field of an index or of a sort, with its direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortField {
    /// The field.
    pub field: FieldPath,
    /// Its direction. That of an index's field does not count: an index is read either way.
    pub order: Order,
}

impl SortField {
    /// Fields by name, from low to high.
    ///
    /// # Errors
    /// [`SelectorError::FieldName`].
    pub fn ascending(names: &[&str]) -> Result<Vec<Self>, SelectorError> {
        let field =
            |name: &&str| Ok(Self { field: FieldPath::parse(name)?, order: Order::Ascending });
        names.iter().map(field).collect()
    }

    fn json(&self) -> (Cow<'static, str>, Json<'static>) {
        (self.field.to_string().into(), Json::String(order_name(self.order).into()))
    }
}

/// An index that is defined in a design document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The design document.
    pub ddoc: DocId,
    /// Its name there.
    pub name: String,
    /// Its fields. A document that lacks one is not in the index.
    pub fields: Vec<SortField>,
    /// Documents that do not match are not in the index. A query uses such an index only if it
    /// names it.
    pub partial_filter: Option<Selector>,
}

impl Index {
    /// The fields without their directions.
    #[must_use]
    pub fn columns(&self) -> Vec<FieldPath> {
        self.fields.iter().map(|field| field.field.clone()).collect()
    }

    /// The indexes of a design document.
    pub(crate) fn all_of(document: &Document, limits: &Limits) -> Vec<Self> {
        let Json::Object(members) = Json::cut(document.body.as_str()) else { return Vec::new() };
        if !document.id.as_str().starts_with(DESIGN) || !is_of_indexes(&members) {
            return Vec::new();
        }
        let Some(Json::Object(views)) = member(&members, "views") else { return Vec::new() };
        let mut found: Vec<Self> = views
            .iter()
            .filter_map(|(name, view)| Self::of_view(&document.id, name, view, limits))
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    fn of_view(ddoc: &DocId, name: &str, view: &Json<'_>, limits: &Limits) -> Option<Self> {
        let Json::Object(view) = view else { return None };
        let Json::Object(map) = member(view, "map")? else { return None };
        let Json::Object(fields) = member(map, "fields")? else { return None };
        let field = |(name, direction): &(Cow<'_, str>, Json<'_>)| {
            let Json::String(direction) = direction else { return None };
            let (field, order) = (FieldPath::parse(name).ok()?, order_named(direction)?);
            Some(SortField { field, order })
        };
        let fields = fields.iter().map(field).collect::<Option<Vec<_>>>()?;
        let partial_filter = match member(map, "partial_filter_selector") {
            None => None,
            Some(filter) => {
                let filter = Selector::parse(&filter.to_string(), limits).ok()?;
                Some(filter).filter(|filter| !filter.matches_all())
            }
        };
        Some(Self { ddoc: ddoc.clone(), name: name.to_owned(), fields, partial_filter })
    }

    /// A design document without one of its indexes; `None` if that is not in it.
    pub(crate) fn removed(found: Option<&Document>, name: &str) -> Option<Document> {
        let found = found?;
        let Json::Object(mut members) = Json::cut(found.body.as_str()) else { return None };
        if !is_of_indexes(&members) {
            return None;
        }
        let views = members.iter_mut().find(|(key, _)| key == "views")?;
        let Json::Object(views) = &mut views.1 else { return None };
        let place = views.iter().position(|(key, _)| key == name)?;
        views.remove(place);
        if views.is_empty() {
            members.retain(|(key, _)| key != "views");
        }
        if members.len() == 1 {
            return Some(tombstone(found));
        }
        let body = Body::from_stored(&Json::Object(members).to_string());
        Some(Document { body, ..found.clone() })
    }

    /// Names the index's rows.
    pub(crate) fn key(&self) -> IndexKey {
        let names = self.fields.iter().map(|field| Json::String(field.field.to_string().into()));
        let filter = self.partial_filter.as_ref().map_or("{}", Selector::as_str);
        let text = format!("{}\n{}\n{filter}", collate::ENCODING, Json::Array(names.collect()));
        let digest = BlobHasher::of(text.as_bytes()).key;
        let (key, _) = digest.as_bytes().split_first_chunk().expect("32 bytes hold 16");
        IndexKey(*key)
    }

    /// The key of a document's entry; `None` if it has none.
    pub(crate) fn entry_key(&self, document: &Document) -> Option<Vec<u8>> {
        if document.deleted || document.id.as_str().starts_with(DESIGN) {
            return None;
        }
        if !self.partial_filter.as_ref().is_none_or(|filter| filter.matches(document)) {
            return None;
        }
        let values = values(document, &self.columns())?;
        let mut key = Vec::new();
        collate::encode(&Json::Array(values), &mut key);
        cut(&mut key);
        Some(key)
    }

    /// Its definition, as lists of indexes show it.
    #[cfg(feature = "server")]
    pub(crate) fn definition(&self) -> Json<'static> {
        let fields = self.fields.iter().map(|field| Json::Object(vec![field.json()])).collect();
        let mut definition = vec![("fields".into(), Json::Array(fields))];
        if let Some(filter) = &self.partial_filter {
            let filter = Json::cut(filter.as_str()).into_owned();
            definition.push(("partial_filter_selector".into(), filter));
        }
        Json::Object(definition)
    }
}

/// Cuts a key, or a bound, to what is stored; answers whether it was longer.
pub(crate) fn cut(key: &mut Vec<u8>) -> bool {
    let long = key.len() > KEY_BYTES_MAX;
    key.truncate(KEY_BYTES_MAX);
    long
}

type Members<'t> = [(Cow<'t, str>, Json<'t>)];

fn member<'m, 't>(members: &'m Members<'t>, name: &str) -> Option<&'m Json<'t>> {
    members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn is_of_indexes(members: &Members<'_>) -> bool {
    matches!(member(members, "language"), Some(Json::String(language)) if language == "query")
}

/// An index that is to be defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIndex {
    /// Its fields, at least one.
    pub fields: Vec<SortField>,
    /// Only documents that match are to be in it.
    pub partial_filter: Option<Selector>,
    /// The design document, with or without `_design/`; made from the definition if `None`.
    pub ddoc: Option<String>,
    /// Its name; made from the definition if `None`.
    pub name: Option<String>,
}

impl NewIndex {
    /// An index on fields, with names that are made for it.
    ///
    /// # Errors
    /// [`SelectorError::FieldName`].
    pub fn on(fields: &[&str]) -> Result<Self, SelectorError> {
        let fields = SortField::ascending(fields)?;
        Ok(Self { fields, partial_filter: None, ddoc: None, name: None })
    }

    /// The name that it will have.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.auto_name())
    }

    /// The design document that it will be in.
    ///
    /// # Errors
    /// [`StoreError::Malformed`](crate::StoreError::Malformed) for a name that cannot be an id.
    pub fn ddoc(&self) -> Result<DocId, FindError> {
        let name = self.ddoc.clone().unwrap_or_else(|| self.auto_name());
        let id = if name.starts_with(DESIGN) { name } else { format!("{DESIGN}{name}") };
        let id = DocId::parse(&id, Limits::default().doc_id_bytes_max);
        id.map_err(|error| FindError::Store(error.into()))
    }

    /// As in CouchDB, other options make another name.
    fn auto_name(&self) -> String {
        let text = format!("{} {:?} {:?}", self.map(), self.ddoc, self.name);
        let mut name = BlobHasher::of(text.as_bytes()).key.to_string();
        name.truncate(AUTO_NAME_CHARS);
        name
    }

    fn index(&self) -> Result<Index, FindError> {
        let (fields, partial_filter) = (self.fields.clone(), self.partial_filter.clone());
        let partial_filter = partial_filter.filter(|filter| !filter.matches_all());
        Ok(Index { ddoc: self.ddoc()?, name: self.name(), fields, partial_filter })
    }

    fn filter(&self) -> Json<'static> {
        let filter = self.partial_filter.as_ref().map_or("{}", Selector::as_str);
        Json::cut(filter).into_owned()
    }

    fn map(&self) -> Json<'static> {
        let fields = self.fields.iter().map(SortField::json).collect();
        Json::Object(vec![
            ("fields".into(), Json::Object(fields)),
            ("partial_filter_selector".into(), self.filter()),
        ])
    }

    fn view(&self) -> Json<'static> {
        let ascending = self.fields.iter().all(|field| field.order == Order::Ascending);
        let shown = |field: &SortField| {
            if ascending {
                Json::String(field.field.to_string().into())
            } else {
                Json::Object(vec![field.json()])
            }
        };
        let fields = Json::Array(self.fields.iter().map(shown).collect());
        let mut def = vec![("fields".into(), fields)];
        if self.partial_filter.is_some() {
            def.push(("partial_filter_selector".into(), self.filter()));
        }
        Json::Object(vec![
            ("map".into(), self.map()),
            ("reduce".into(), Json::String("_count".into())),
            ("options".into(), Json::Object(vec![("def".into(), Json::Object(def))])),
        ])
    }

    /// What the design document that was found becomes, or a new one, with the definition in it;
    /// `None` if it is there already.
    pub(crate) fn changed(&self, found: Option<&Document>) -> Result<Option<Document>, FindError> {
        if self.fields.iter().any(|field| field.order != self.fields[0].order) {
            return Err(FindError::MixedSort);
        }
        let mut members = match found.map(|found| Json::cut(found.body.as_str())) {
            Some(Json::Object(members)) => members,
            _ => vec![("language".into(), Json::String("query".into()))],
        };
        if !is_of_indexes(&members) {
            let language = member(&members, "language").map(ToString::to_string);
            return Err(FindError::DdocLanguage { language: language.unwrap_or_default() });
        }
        let index = self.index()?;
        if found.is_some_and(|found| Index::all_of(found, &Limits::default()).contains(&index)) {
            return Ok(None);
        }
        let place = members.iter().position(|(key, _)| key == "views").unwrap_or_else(|| {
            members.push(("views".into(), Json::Null));
            members.len() - 1
        });
        let mut views = match std::mem::replace(&mut members[place].1, Json::Null) {
            Json::Object(views) => views,
            _ => Vec::new(),
        };
        match views.iter_mut().find(|(key, _)| *key == index.name) {
            Some((_, view)) => *view = self.view(),
            None => views.push((index.name.into(), self.view())),
        }
        members[place].1 = Json::Object(views);
        let body = Body::from_stored(&Json::Object(members).to_string());
        Ok(Some(match found {
            Some(found) => Document { body, ..found.clone() },
            None => Document::with_body(index.ddoc, body),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ddoc(id: &str, body: &str) -> Document {
        let body = Body::parse(body, &Limits::default()).expect(body);
        Document::with_body(DocId::parse(id, 99).expect(id), body)
    }

    fn changed(new: &NewIndex, found: Option<&Document>) -> Document {
        new.changed(found).expect("it fits").expect("it is not there yet")
    }

    #[test]
    fn a_definition_is_the_view_that_couchdb_makes() {
        let new = NewIndex {
            ddoc: Some("d".into()),
            name: Some("n".into()),
            ..NewIndex::on(&["a", "b.c"]).expect("fields")
        };
        let document = changed(&new, None);
        assert_eq!(document.id.as_str(), "_design/d");
        assert_eq!(
            document.body.as_str(),
            r#"{"language":"query","views":{"n":{"map":{"fields":{"a":"asc","b.c":"asc"},"partial_filter_selector":{}},"reduce":"_count","options":{"def":{"fields":["a","b.c"]}}}}}"#
        );
        let [index] = &Index::all_of(&document, &Limits::default())[..] else {
            panic!("another number of indexes")
        };
        assert_eq!((index.name.as_str(), &index.fields), ("n", &new.fields));
        assert_eq!(new.changed(Some(&document)).expect("it fits"), None);
    }

    #[test]
    fn a_design_document_holds_several_and_goes_with_the_last() {
        let named = |name: &str, field: &str| NewIndex {
            ddoc: Some("d".into()),
            name: Some(name.into()),
            ..NewIndex::on(&[field]).expect("a field")
        };
        let one = changed(&named("one", "a"), None);
        let two = changed(&named("two", "b"), Some(&one));
        assert_eq!(Index::all_of(&two, &Limits::default()).len(), 2);
        let left = Index::removed(Some(&two), "one").expect("it was there");
        assert!(!left.deleted);
        assert!(Index::removed(Some(&left), "one").is_none());
        assert!(Index::removed(Some(&left), "two").expect("it was there").deleted);
    }

    #[test]
    fn what_is_no_index_is_passed_over() {
        for body in [
            r#"{"language":"query"}"#,
            r#"{"views":{"a":{"map":{"fields":{"a":"asc"}}}}}"#,
            r#"{"language":"query","views":{"a":{"map":"function () {}"}}}"#,
            r#"{"language":"query","views":{"a":{"map":{"fields":{"a":"up"}}}}}"#,
            r#"{"language":"query","views":{"a":{"map":{"fields":{"a":"asc"},"partial_filter_selector":{"$x":1}}}}}"#,
        ] {
            assert_eq!(Index::all_of(&ddoc("_design/d", body), &Limits::default()), [], "{body}");
        }
        let other = ddoc("_design/d", r#"{"language":"javascript"}"#);
        let refused = NewIndex::on(&["a"]).expect("a field").changed(Some(&other));
        assert!(matches!(refused, Err(FindError::DdocLanguage { .. })), "{refused:?}");
    }

    #[test]
    fn rows_are_shared_by_what_decides_them() {
        let index = |fields: &[&str], filter: Option<&str>| {
            let filter = filter.map(|text| Selector::parse(text, &Limits::default()).expect(text));
            let new = NewIndex { partial_filter: filter, ..NewIndex::on(fields).expect("fields") };
            new.index().expect("an index").key()
        };
        assert_eq!(index(&["a"], None), index(&["a"], Some("{}")));
        assert_eq!(
            index(&["a"], Some(r#"{"b":1,"c":2}"#)),
            index(&["a"], Some(r#"{"c":2,"b":1}"#))
        );
        assert_ne!(index(&["a"], None), index(&["a", "b"], None));
        assert_ne!(index(&["a.b"], None), index(&["a", "b"], None));
        assert_ne!(index(&["a"], None), index(&["a"], Some(r#"{"b":1}"#)));
    }

    #[test]
    fn long_values_are_cut() {
        let index = NewIndex::on(&["a"]).expect("a field").index().expect("an index");
        let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(100_000));
        let key = index.entry_key(&ddoc("doc", &body)).expect("it has the field");
        assert_eq!(key.len(), KEY_BYTES_MAX);
        assert_eq!(index.entry_key(&ddoc("doc", r#"{"b":1}"#)), None);
        assert_eq!(index.entry_key(&ddoc("_design/doc", r#"{"a":1}"#)), None);
    }
}
