//! A message as a reader sees it who knows nothing of its type.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// A value of MessagePack or JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Nil,
    Bool(bool),
    Number(i128),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Shape>),
    Map(BTreeMap<String, Shape>),
}

/// Fields whose map is a choice (how a process ended), or has data for keys.
const NO_STRUCTURES: [&str; 2] = ["exit", "weights"];

impl Shape {
    /// Of a message's bytes: MessagePack, or the JSON of an identity file.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes.first() {
            Some(b'{') => serde_json::from_slice(bytes).expect("JSON"),
            _ => rmp_serde::from_slice(bytes).expect("MessagePack"),
        }
    }

    /// The message again, in the encoding of `like`.
    pub fn bytes(&self, like: &[u8]) -> Vec<u8> {
        match like.first() {
            Some(b'{') => serde_json::to_vec(self).expect("JSON"),
            _ => rmp_serde::to_vec(self).expect("MessagePack"),
        }
    }

    /// The same message with an unknown field in each of its structures.
    pub fn with_unknown_fields(&self) -> Self {
        match self {
            Shape::List(items) => Shape::List(items.iter().map(Shape::with_unknown_fields).collect()),
            Shape::Map(fields) => {
                let of = |(name, value): (&String, &Shape)| match NO_STRUCTURES.contains(&name.as_str()) {
                    true => (name.clone(), value.clone()),
                    false => (name.clone(), value.with_unknown_fields()),
                };
                let added = ("added_later".to_owned(), Shape::Text("x".into()));
                Shape::Map(fields.iter().map(of).chain([added]).collect())
            }
            other => other.clone(),
        }
    }

    /// The fields of `self` that `other` lacks or has with another value, with the path to each.
    pub fn lost_in(&self, other: &Shape) -> Vec<String> {
        self.differences(other, "", &|one, other| one == other)
    }

    /// The fields of `self` that `other` lacks or has with another type. An absent value has any type.
    pub fn other_type_in(&self, other: &Shape) -> Vec<String> {
        self.differences(other, "", &|one, other| {
            matches!((one, other), (Shape::Nil, _) | (_, Shape::Nil))
                || std::mem::discriminant(one) == std::mem::discriminant(other)
        })
    }

    fn differences(&self, other: &Shape, path: &str, is_same: &dyn Fn(&Shape, &Shape) -> bool) -> Vec<String> {
        match (self, other) {
            (Shape::Map(one), Shape::Map(other)) => {
                let of = |(name, value): (&String, &Shape)| {
                    let path = format!("{path}.{name}");
                    match other.get(name) {
                        Some(other) => value.differences(other, &path, is_same),
                        None => vec![format!("{path} is missing")],
                    }
                };
                one.iter().flat_map(of).collect()
            }
            // One item stands for all.
            (Shape::List(one), Shape::List(other)) => match (one.first(), other.first()) {
                (Some(one), Some(other)) => one.differences(other, &format!("{path}[]"), is_same),
                _ => Vec::new(),
            },
            (one, other) if is_same(one, other) => Vec::new(),
            (one, other) => vec![format!("{path} was {one:?} and is {other:?}")],
        }
    }
}

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Shape::Nil => serializer.serialize_none(),
            Shape::Bool(value) => serializer.serialize_bool(*value),
            Shape::Number(value) => match u64::try_from(*value) {
                Ok(value) => serializer.serialize_u64(value),
                Err(_) => serializer.serialize_i64(i64::try_from(*value).unwrap_or(i64::MIN)),
            },
            Shape::Text(value) => serializer.serialize_str(value),
            Shape::Bytes(value) => serializer.serialize_bytes(value),
            Shape::List(items) => items.serialize(serializer),
            Shape::Map(fields) => fields.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Nil)
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Nil)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        Shape::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Number(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(Shape::Text(value.to_owned()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Shape, E> {
        Ok(Shape::Bytes(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Shape::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Shape, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((name, value)) = fields.next_entry()? {
            map.insert(name, value);
        }
        Ok(Shape::Map(map))
    }
}
