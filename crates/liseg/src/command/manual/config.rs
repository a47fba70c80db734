//! The page of the handbook about configs, written from their schemas.

use super::super::schema::FileKind;
use liseg::engine::RunConfig;
use liseg::engine::experiment::Experiment;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;

const OPENING: &str = "\
# Config

Written from the code. A field is followed by what it may be and by what it is when left out; one of which no
default is said, and which is no table, must be given. In a file, `training.epochs` is `epochs` below `[training]`; on the command line it is
`--set training.epochs=20`. `liseg schema run` and `liseg schema experiment` print the same for editors, which
then complete and check as one types.
";

/// The fields of a run and of an experiment, as Markdown.
pub(crate) fn markdown() -> String {
    let mut page = OPENING.to_owned();
    let mut book = Book::new(FileKind::Run, Order::of(&runs()), "");
    page += "\n## A run\n\nThe file of `liseg train`; examples are in `examples/configs`.\n\n";
    book.write_all(&mut page);
    let mut book = Book::new(
        FileKind::Experiment,
        Order::of(&experiments()),
        "experiment: ",
    );
    page += "\n## An experiment\n\nThe file of `liseg experiment`; examples are in `examples/experiments`.\n\n";
    book.write_all(&mut page);
    page
}

/// Configs that between them have every table, to learn the order of fields from.
fn runs() -> Vec<String> {
    let strategies = liseg::ssl::StrategyConfig::NAMES.map(|name| ("strategy", name));
    let optimisers = ["adamw", "adam", "sgd"].map(|name| ("optimiser", name));
    let schedules = ["polynomial", "cosine", "constant"].map(|name| ("training.schedule", name));
    let mut texts: Vec<String> = [&strategies[..], &optimisers, &schedules]
        .concat()
        .iter()
        .map(|(table, name)| format!("[{table}]\nname = \"{name}\"\n"))
        .collect();
    texts.push("[training.schedule]\nname = \"stairs\"\nevery = 9\nfactor = 0.1\n".into());
    texts.push("[[training.layer_rates]]\nprefix = \"a\"\nfactor = 1.0\n".into());
    let config = |text: String| {
        let config: RunConfig = toml::from_str(&format!("data = \"data\"\n{text}")).unwrap();
        serde_json::to_string(&config).unwrap()
    };
    texts.into_iter().map(config).collect()
}

fn experiments() -> Vec<String> {
    let text = "name = \"a\"\n[datasets.target.phantom]\n[[axes]]\nname = \"a\"\nvalues = [{ name = \"a\" }]\n\
                [[variants]]\nname = \"a\"\npaper = [{ phase = \"GED4\", dice = 0.9, hd = 9.0 }]\n";
    let experiment: Experiment = toml::from_str(text).unwrap();
    vec![serde_json::to_string(&experiment).unwrap()]
}

/// The order in which structs declare their fields, which a schema forgets.
#[derive(Default)]
struct Order(BTreeMap<Vec<String>, Vec<String>>);

impl Order {
    /// Serialised structs have their fields in the order of declaration.
    fn of(documents: &[String]) -> Self {
        let mut order = Self::default();
        for document in documents {
            order.learn(&serde_json::from_str(document).unwrap());
        }
        order
    }

    fn learn(&mut self, tree: &Tree) {
        match tree {
            Tree::Table(fields) => {
                let names: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
                let mut sorted = names.clone();
                sorted.sort();
                self.0.insert(sorted, names);
                fields.iter().for_each(|(_, value)| self.learn(value));
            }
            Tree::List(values) => values.iter().for_each(|value| self.learn(value)),
            Tree::Leaf => {}
        }
    }

    fn fields<'a>(&self, properties: &'a Map<String, Value>) -> Vec<(&'a str, &'a Value)> {
        let mut sorted: Vec<String> = properties.keys().cloned().collect();
        sorted.sort();
        let names = self.0.get(&sorted).unwrap_or(&sorted);
        let entry = |name: &String| properties.get_key_value(name);
        let found = names.iter().filter_map(entry);
        found.map(|(name, value)| (name.as_str(), value)).collect()
    }
}

/// JSON whose tables keep their order.
enum Tree {
    Table(Vec<(String, Tree)>),
    List(Vec<Tree>),
    Leaf,
}

impl<'de> serde::Deserialize<'de> for Tree {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Tree;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Tree::Table(fields))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Tree, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Tree::List(values))
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }

            fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// One schema on its way to the page.
struct Book {
    schema: Value,
    order: Order,
    /// What headings begin with, so that no two of the page are equal.
    before: &'static str,
    /// Tables by the name of their definition, each with the heading of its section.
    sections: Vec<(String, String)>,
}

impl Book {
    fn new(kind: FileKind, order: Order, before: &'static str) -> Self {
        Self {
            schema: kind.schema(),
            order,
            before,
            sections: Vec::new(),
        }
    }

    fn write_all(&mut self, page: &mut String) {
        let root = self.schema.clone();
        self.fields("", &root, page);
        // Sections name further ones while they are written.
        let mut next = 0;
        while let Some((definition, path)) = self.sections.get(next).cloned() {
            next += 1;
            let known = self.sections.len();
            let schema = self.schema["$defs"][&definition].clone();
            let _ = writeln!(page, "\n### {}{path}\n", self.before);
            let _ = writeln!(page, "{}\n", prose(&schema["description"]));
            match variants(&schema) {
                Some(variants) => self.alternatives(&path, variants, page),
                None => self.fields(&path, &schema, page),
            }
            // The tables in a table come right after it.
            let inner = self.sections.split_off(known);
            self.sections.splice(next..next, inner);
        }
    }

    /// A table of which a field, `name`, says what the others are.
    fn alternatives(&mut self, path: &str, variants: &[Value], page: &mut String) {
        for variant in variants {
            let name = variant["properties"]["name"]["const"].as_str().unwrap();
            let _ = writeln!(
                page,
                "**`name = \"{name}\"`**: {}\n",
                prose(&variant["description"])
            );
            self.fields(path, variant, page);
            page.push('\n');
        }
        // One empty line between sections.
        page.truncate(page.trim_end().len());
        page.push('\n');
    }

    /// The fields of a table, one a line.
    fn fields(&mut self, path: &str, schema: &Value, page: &mut String) {
        let Some(properties) = schema["properties"].as_object() else {
            return;
        };
        let ordered: Vec<(String, Value)> = self
            .order
            .fields(properties)
            .into_iter()
            .map(|(name, field)| (name.to_owned(), field.clone()))
            .collect();
        for (name, field) in ordered {
            // The tag of an alternative is in its heading.
            if field.get("const").is_some() {
                continue;
            }
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            let choices = self.choices(&field);
            let kind = self.kind(&path, &field);
            let default = self.default(&field);
            let mut text = prose(&field["description"]);
            if text.is_empty() {
                text = prose(&self.resolved(&field)["description"]);
            }
            let _ = writeln!(page, "- `{name}` ({kind}{default}): {text}");
            for (value, meaning) in choices {
                let _ = writeln!(page, "  - `\"{value}\"`: {meaning}");
            }
        }
    }

    /// The definition that a schema refers to, or the schema itself.
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match definition(schema) {
            Some(name) => &self.schema["$defs"][name],
            None => schema,
        }
    }

    /// The words that a field may be, with their meanings.
    fn choices(&self, schema: &Value) -> Vec<(String, String)> {
        let mut schema = self.resolved(schema);
        if let Some(items) = schema.get("items") {
            schema = self.resolved(items);
        }
        let words = schema["oneOf"].as_array().into_iter().flatten();
        words
            .filter_map(|word| {
                let value = word["const"].as_str()?.to_owned();
                Some((value, prose(&word["description"])))
            })
            .collect()
    }

    /// What a value may be, in words; a table gets a section.
    fn kind(&mut self, path: &str, schema: &Value) -> String {
        if let Some(name) = definition(schema) {
            let resolved = self.schema["$defs"][name].clone();
            if resolved["properties"].is_object() || variants(&resolved).is_some() {
                return self.link(name, path);
            }
            return self.kind(path, &resolved);
        }
        // They are listed with their meanings.
        if schema["oneOf"].is_array() {
            return "one of these words".into();
        }
        let types = &schema["type"];
        let named = types.as_str().or_else(|| types[0].as_str());
        match named {
            Some("boolean") => "`true` or `false`".into(),
            Some("integer") => "whole number".into(),
            Some("number") => "number".into(),
            Some("string") => "text".into(),
            Some("array") => {
                let of = self.kind(path, &schema["items"]);
                match schema["minItems"].as_u64() {
                    Some(count) => format!("{count} of: {of}"),
                    None => format!("list of: {of}"),
                }
            }
            Some("object") if schema["additionalProperties"].is_object() => {
                let of = self.kind(&format!("{path}.NAME"), &schema["additionalProperties"]);
                format!("by name: {of}")
            }
            Some("object") => "table".into(),
            _ => "anything".into(),
        }
    }

    fn link(&mut self, definition: &str, path: &str) -> String {
        let known = self.sections.iter().find(|(name, _)| name == definition);
        let heading = match known {
            Some((_, heading)) => heading.clone(),
            None => {
                self.sections.push((definition.to_owned(), path.to_owned()));
                path.to_owned()
            }
        };
        let anchor: String = format!("{}{heading}", self.before)
            .to_lowercase()
            .chars()
            .filter_map(|c| match c {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || "_-".contains(c) => Some(c),
                _ => None,
            })
            .collect();
        format!("table [{heading}](#{anchor})")
    }

    /// What holds when the field is left out, if it may be.
    fn default(&self, field: &Value) -> String {
        let Some(default) = field.get("default") else {
            return String::new();
        };
        let own = self.resolved(field);
        match default {
            Value::Null => "; may be left out".into(),
            // Its section has the defaults of its fields; some tables begin with others.
            Value::Object(values) if own["properties"].is_object() => {
                let other: Map<String, Value> = values
                    .iter()
                    .filter(|(name, value)| own["properties"][name].get("default") != Some(value))
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect();
                if other.is_empty() {
                    String::new()
                } else {
                    format!("; default `{}`", literal(&Value::Object(other)))
                }
            }
            Value::Object(values) => match values.get("name") {
                Some(name) => format!("; default `name = {}`", literal(name)),
                None => String::new(),
            },
            value => format!("; default `{}`", literal(value)),
        }
    }
}

/// The name of the definition that a schema refers to, optional or not.
fn definition(schema: &Value) -> Option<&str> {
    let optional = &schema["anyOf"][0]["$ref"];
    let name = schema["$ref"].as_str().or(optional.as_str())?;
    name.strip_prefix("#/$defs/")
}

/// The tables among which a field `name` chooses.
fn variants(schema: &Value) -> Option<&Vec<Value>> {
    let variants = schema["oneOf"].as_array()?;
    variants[0]["properties"]["name"]
        .is_object()
        .then_some(variants)
}

/// A value as TOML has it.
fn literal(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name} = {}", literal(value)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(literal).collect();
            format!("[{}]", values.join(", "))
        }
        other => other.to_string(),
    }
}

/// Documentation on one line, without links into the code.
fn prose(description: &Value) -> String {
    let text = description.as_str().unwrap_or_default();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("[`") {
        let Some((name, after)) = after.split_once("`]") else {
            break;
        };
        let name = name.rsplit("::").next().unwrap_or(name);
        let _ = write!(plain, "{before}`{name}`");
        rest = match after.strip_prefix('(') {
            Some(target) => target.split_once(')').map_or("", |(_, after)| after),
            None => after,
        };
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_every_strategy_is_on_the_page() {
        let page = markdown();
        let mut fields = 0;
        for names in Order::of(&runs()).0.into_values() {
            for name in names.iter().filter(|name| *name != "name") {
                assert!(page.contains(&format!("- `{name}` (")), "{name}");
                fields += 1;
            }
        }
        assert!(fields > 150, "only {fields} fields");
    }

    #[test]
    fn links_into_the_code_become_words() {
        let text =
            Value::from("Settings of [`Blur`](crate::Blur),\nas [`Self::Each`]; [low, high].");
        assert_eq!(prose(&text), "Settings of `Blur`, as `Each`; [low, high].");
    }

    /// `LISEG_WRITE_MANUAL=1 cargo test -p liseg --bins manual` writes the page anew.
    #[test]
    fn the_handbook_has_the_fields_of_today() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/reference/config.md"
        );
        if std::env::var_os("LISEG_WRITE_MANUAL").is_some() {
            std::fs::write(file, markdown()).unwrap();
        }
        let page = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            page == markdown(),
            "docs/reference/config.md is out of date; LISEG_WRITE_MANUAL=1 cargo test -p liseg --bins manual"
        );
    }
}
