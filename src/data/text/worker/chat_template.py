"""Chat templates: rendered by jinja2 in the sandbox, with the helpers, that transformers gives them."""
import datetime
import json

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

# Names under which a message's reasoning travels; a template reads the first, older ones the second.
REASONING = ("reasoning_content", "thinking", "reasoning")


class Generation(jinja2.ext.Extension):
    """{% generation %} ... {% endgeneration %}: what the model writes. Noted as spans of the rendered text, in characters."""

    tags = {"generation"}

    def __init__(self, environment):
        super().__init__(environment)
        self.spans, self.pieces = None, None
        environment.generation = self

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("note"), [], [], body).set_lineno(line)

    def note(self, caller):
        written = caller()
        if self.spans is not None:
            begin = sum(map(len, self.pieces))
            self.spans.append((begin, begin + len(written)))
        return written

    def render(self, template, variables):
        """The text and the spans."""
        self.spans, self.pieces = [], []
        try:
            for piece in template.generate(**variables):
                self.pieces.append(piece)
            return "".join(self.pieces), self.spans
        finally:
            self.spans, self.pieces = None, None


class Namespace(jinja2.utils.Namespace):
    """namespace(...) without names that begin with an underscore: those would reach into Python."""

    def __init__(*args, **kwargs):
        self, values = args[0], dict(*args[1:], **kwargs)
        for name in values:
            refuse_private(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name, value):
        refuse_private(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)


class Dict:
    """dict(...) in a template; the class itself stays out of its reach."""

    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


def refuse_private(name):
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace may not have an attribute {name!r}: call it without the underscore")


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def make_environment():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals.update(
        raise_exception=raise_exception, strftime_now=lambda form: datetime.datetime.now().strftime(form), dict=Dict(),
        namespace=Namespace)
    return environment


def with_reasoning(message):
    """The message with its reasoning under the names that templates read it by."""
    reasoning = next((message[name] for name in REASONING if message.get(name) is not None), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


class ChatTemplates:
    """The templates of a tokenizer, by name, and the variables that every rendering gets (bos_token, ...)."""

    def __init__(self, templates, variables):
        self.sources, self.variables = templates, variables
        self.environment, self.compiled = make_environment(), {}

    def choose(self, tools):
        """The template for a conversation, or an error that says what is missing."""
        for name in (("tool_use",) if tools is not None else ()) + ("default",):
            if name in self.sources:
                if name not in self.compiled:
                    self.compiled[name] = self.environment.from_string(self.sources[name])
                return self.compiled[name]
        if self.sources:
            raise ValueError(f"the tokenizer has the chat templates {', '.join(sorted(self.sources))} and none called default")
        raise ValueError("the tokenizer has no chat template: put a chat_template.jinja beside it, or give text rows")

    def marks_generation(self):
        return any("endgeneration" in source for source in self.sources.values())

    def render(self, chat, generation_prompt):
        """`chat`: {"messages", "tools", "kwargs"} -> (text, spans of what the model wrote)."""
        messages = [with_reasoning({name: value for name, value in message.items() if value is not None})
                    for message in chat["messages"]]
        tools = chat.get("tools")
        if isinstance(tools, str):
            tools = json.loads(tools)
        variables = {**self.variables, **(chat.get("kwargs") or {}), "messages": messages, "tools": tools,
                     "documents": None, "add_generation_prompt": generation_prompt}
        template = self.choose(tools)
        return self.environment.generation.render(template, variables)
