"""text worker: encodes, decodes and renders for one fpdist process, which starts it and speaks to it over stdin and stdout.
Usage: text_worker.py PACKAGES DIRECTORY RENDER_SECONDS MEMORY_MIB

Frames, both ways: uint32 length, then as many bytes; all numbers little-endian. src/data/text/worker_frames.hpp has the other side.
The first frame from here is b"H" and what the tokenizer is, as JSON; or b"!" and why there is none. Requests after that:
  b"E" count, then for each text: kind (0 text, 1 conversation, 2 text with spans), flags, uint32 length, bytes
       [, uint32 spans, (uint32 begin, uint32 end) each]. Flags: 1 end of sequence behind it, 2 generation prompt, 4 mask,
       8 no tokens that the tokenizer adds by itself
  b"R" count, then texts and conversations as in E -> texts
  b"D" count, then uint32 number and int32 ids each -> texts
  b"P" 0 -> a text for every id of the vocabulary: the bytes that it stands for, which need not be characters
An answer is the verb, and for each request a status (0, or 1 and then text says why not) and what was asked for.
Nothing is read ahead: whoever closes stdin ends the process.
"""
import array
import json
import os
import resource
import signal
import struct
import sys

TEXT, CHAT, SPANS = 0, 1, 2
END, GENERATION_PROMPT, MASK, BARE = 1, 2, 4, 8


class TooLong(BaseException):
    """A template that runs for longer than it may. No Exception: templates and libraries must not catch it."""


class Reader:
    """One request frame."""

    def __init__(self, frame):
        self.frame, self.at = frame, 0

    def numbers(self, form):
        values = struct.unpack_from("<" + form, self.frame, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def number(self, form="I"):
        return self.numbers(form)[0]

    def bytes(self):
        length = self.number()
        self.at += length
        return self.frame[self.at - length:self.at]

    def ids(self):
        return self.numbers(f"{self.number()}i")


def said(problem):
    words = (str(problem) or type(problem).__name__).encode("utf-8", "replace")
    return struct.pack("<BI", 1, len(words)) + words


def sized(bytes_):
    return struct.pack("<BI", 0, len(bytes_)) + bytes_


class Worker:
    def __init__(self, folder, seconds):
        import chat_template
        import tokenizer_files

        files = tokenizer_files.Files(folder)
        self.tokenizer = tokenizer_files.open_tokenizer(files)
        self.templates = chat_template.ChatTemplates(files.templates(), files.named)
        self.seconds, self.named = seconds, files.named
        self.end = files.named.get("eos_token")
        if self.end is None and files.end_id() is not None:
            self.end = self.tokenizer.token_of(files.end_id())

    def facts(self):
        def id_of(name):
            token = self.end if name == "eos_token" else self.named.get(name)
            return -1 if token is None or self.tokenizer.id_of(token) is None else self.tokenizer.id_of(token)

        return json.dumps({
            "vocab_size": self.tokenizer.vocab_size(), "bos_id": id_of("bos_token"), "eos_id": id_of("eos_token"),
            "pad_id": id_of("pad_token"), "has_template": bool(self.templates.sources),
            "marks_generation": self.templates.marks_generation()}).encode()

    def render(self, chat, generation_prompt):
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            return self.templates.render(json.loads(chat), generation_prompt)
        except TooLong:
            raise ValueError(f"the chat template ran for more than {self.seconds:g} seconds and was stopped") from None
        except RecursionError:
            raise ValueError("the conversation or the chat template is nested too deeply") from None
        except MemoryError:
            raise ValueError("the chat template asked for too much memory") from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def with_end(self, text):
        if self.end is None:
            raise ValueError("the tokenizer names no end of sequence: set eos_token in tokenizer_config.json")
        return text if text.endswith(self.end) else text + self.end

    def one_text(self, request):
        """(text, whether the tokenizer adds its own tokens, spans or None) of one request of E."""
        kind, flags = request.numbers("BB")
        given = bytes(request.bytes())
        spans = [request.numbers("II") for _ in range(request.number())] if kind == SPANS else None
        if kind == CHAT:
            text, marked = self.render(given, bool(flags & GENERATION_PROMPT))
            return text, False, marked if flags & MASK else None
        text = given.decode("utf-8")
        return self.with_end(text) if flags & END else text, not flags & BARE, spans

    def encode(self, request, count):
        answers, plain = [b""] * count, {True: [], False: []}
        for index in range(count):
            try:
                text, special, spans = self.one_text(request)
                text.encode("utf-8")  # a template may have made a lone surrogate
                if spans is None:
                    plain[special].append((index, text))
                else:
                    ids, inside = self.tokenizer.encode_spans(text, spans)
                    answers[index] = self.packed(ids) + b"\x01" + inside
            except Exception as problem:
                answers[index] = said(problem)
        for special, texts in plain.items():
            if texts:
                for (index, _), ids in zip(texts, self.tokenizer.encode([text for _, text in texts], special)):
                    answers[index] = self.packed(ids) + b"\x00"
        return b"".join(answers)

    @staticmethod
    def packed(ids):
        return struct.pack("<BI", 0, len(ids)) + array.array("i", ids).tobytes()

    def rendered(self, request, count):
        answers = []
        for _ in range(count):
            kind, flags = request.numbers("BB")
            chat = bytes(request.bytes())
            try:
                text = self.render(chat, bool(flags & GENERATION_PROMPT))[0].encode("utf-8") if kind == CHAT else chat
                answers.append(sized(text))
            except Exception as problem:
                answers.append(said(problem))
        return b"".join(answers)

    def decoded(self, request, count):
        answers = []
        for _ in range(count):
            ids = list(request.ids())
            try:
                answers.append(sized(self.tokenizer.decode(ids).encode("utf-8", "replace")))
            except Exception as problem:
                answers.append(said(problem))
        return b"".join(answers)

    def pieces(self, request, count):
        answers = []
        for at in range(self.tokenizer.vocab_size()):
            try:
                answers.append(sized(self.tokenizer.bytes_of(at)))
            except Exception as problem:
                answers.append(said(problem))
        return b"".join(answers)

    def answer(self, frame):
        request = Reader(frame)
        verb, count = request.numbers("cI")
        return verb + {b"E": self.encode, b"R": self.rendered, b"D": self.decoded, b"P": self.pieces}[verb](request, count)


def read_exactly(count):
    """`count` bytes of stdin; fewer when it ends."""
    got = bytearray()
    while len(got) < count:
        piece = os.read(0, min(count - len(got), 1 << 20))
        if not piece:
            break
        got += piece
    return memoryview(got)


def send(payload):
    whole = memoryview(struct.pack("<I", len(payload)) + payload)
    while whole:
        whole = whole[os.write(1, whole):]


def stop_template(*_):
    raise TooLong


def main():
    packages, folder, seconds, memory = sys.argv[1:]
    sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), packages]
    sys.stdout = sys.stderr  # what a library prints is no frame
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the other workers are the parallelism
    resource.setrlimit(resource.RLIMIT_AS, (int(memory) << 20,) * 2)
    signal.signal(signal.SIGALRM, stop_template)
    try:
        worker = Worker(folder, float(seconds))
    except ImportError as problem:
        return send(b"!" + f"{problem}: run launch/setup.sh, which puts it into .deps/text".encode())
    except Exception as problem:
        return send(b"!" + f"{type(problem).__name__ if not str(problem) else problem}".encode("utf-8", "replace"))
    send(b"H" + worker.facts())
    while len(head := read_exactly(4)) == 4:
        frame = read_exactly(struct.unpack("<I", head)[0])
        send(worker.answer(frame))


main()
