"""The part of JSON Schema that mpijob.schema.json is written in. An object's names are all listed under properties, or
free and of one kind under "values"; "$ref" names one of the top's definitions."""
import re

TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def breaches(value, schema, definitions, at="mpijob"):
    """Lines that say what of `value` the schema does not allow."""
    if "$ref" in schema:
        return breaches(value, definitions[schema["$ref"]], definitions, at)
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{at}: {value!r} is none of {schema['enum']}"]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, TYPES[kind]) and (kind == "boolean") == isinstance(value, bool) for kind in kinds):
        return [f"{at}: {value!r} is no {' or '.join(kinds)}"]
    found = []
    if "pattern" in schema and not re.search(schema["pattern"], str(value)):
        found.append(f"{at}: {value!r} does not match {schema['pattern']}")
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"{at}: {value} is less than {schema['minimum']}")
    if isinstance(value, dict):
        found += [f"{at}: no {name}" for name in schema.get("required", []) if name not in value]
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("values"))
            found += breaches(item, inner, definitions, f"{at}.{name}") if inner else [f"{at}: unknown name {name}"]
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += breaches(item, schema["items"], definitions, f"{at}[{index}]")
    return found
