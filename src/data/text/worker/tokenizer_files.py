"""A model's tokenizer from its directory, with the files and the precedence that transformers has."""
import json
import pathlib
import re

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
WORD = "\u2581"  # SentencePiece's space
BYTE = re.compile("<0x([0-9A-F]{2})>")
WALL = "\ue000"  # a character of nobody's, which no piece grows across
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


def read_json(path):
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(read, dict):
        raise ValueError(f"{path}: not a JSON object")
    return read


def content(token):
    return token.get("content") if isinstance(token, dict) else token


class Files:
    """What the small files of a directory say of a tokenizer."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.config = read_json(self.folder / "tokenizer_config.json")
        self.named = {name: content(self.config[name]) for name in NAMED if self.config.get(name) is not None}
        if "added_tokens_decoder" not in self.config:  # an older directory: the map has the last word
            special = read_json(self.folder / "special_tokens_map.json")
            self.named.update({name: content(special[name]) for name in NAMED if special.get(name) is not None})

    def templates(self):
        """Name -> template: files of their own come before tokenizer_config.json."""
        found = {}
        single = self.folder / "chat_template.jinja"
        if single.is_file():
            found["default"] = single.read_text(encoding="utf-8")
        for path in sorted((self.folder / "additional_chat_templates").glob("*.jinja")):
            found[path.stem] = path.read_text(encoding="utf-8")
        if found:
            return found
        given = self.config.get("chat_template")
        if isinstance(given, str):
            return {"default": given}
        if isinstance(given, dict):
            return given
        return {one["name"]: one["template"] for one in given or ()}

    def added_tokens(self):
        """(id, description) that tokenizer_config.json adds, by id."""
        return sorted((int(at), token) for at, token in (self.config.get("added_tokens_decoder") or {}).items())

    def end_id(self):
        """The end of sequence that the model's own files name, where the tokenizer's do not."""
        for name in ("generation_config.json", "config.json"):
            given = read_json(self.folder / name).get("eos_token_id")
            given = given[0] if isinstance(given, list) and given else given
            if isinstance(given, int):
                return given
        return None


def byte_letters():
    """Character -> byte of byte-level vocabularies: printable Latin-1 stands for itself, all others for 256 and on, in order."""
    own = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {**{chr(byte): byte for byte in own}, **{chr(256 + place): byte for place, byte in enumerate(others)}}


def piece_bytes(piece):
    """Of a piece of SentencePiece's kind."""
    byte = BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(WORD, " ").encode()


class JsonTokenizer:
    """tokenizer.json, read by the library that wrote it."""

    def __init__(self, files):
        import tokenizers

        self.library = tokenizers.Tokenizer.from_file(str(files.folder / "tokenizer.json"))
        self.library.no_truncation()
        self.library.no_padding()
        self.library.encode_special_tokens = bool(files.config.get("split_special_tokens", False))
        known = {token.content: token for token in self.library.get_added_tokens_decoder().values()}
        missing = []
        for _, token in files.added_tokens():
            if token["content"] not in known:
                missing.append(tokenizers.AddedToken(**{key: value for key, value in token.items() if key != "__type"}))
        known.update({token.content: token for token in missing})
        extra = files.config.get("extra_special_tokens") or files.config.get("additional_special_tokens") or ()
        for token in [*files.named.values(), *map(content, extra.values() if isinstance(extra, dict) else extra)]:
            if token not in known:
                known[token] = tokenizers.AddedToken(token, special=True)
                missing.append(known[token])
        if missing:
            self.library.add_tokens(missing)

        self.added = {at: token.content for at, token in self.library.get_added_tokens_decoder().items()}
        self.letters = byte_letters()
        self.kinds = self.decoders()

    def decoders(self):
        """Kinds of what pieces become text by."""
        decoder = json.loads(self.library.to_str()).get("decoder") or {}
        return {one["type"] for one in decoder.get("decoders", [decoder]) if one}

    def bytes_of(self, at):
        """What the token stands for between others."""
        piece = self.library.id_to_token(at)
        if piece is None or at in self.added:
            return self.added.get(at, "").encode()
        if "ByteLevel" in self.kinds:
            return bytes(self.letters[letter] for letter in piece)
        if self.kinds & {"ByteFallback", "Metaspace", "Replace"}:
            return piece_bytes(piece)
        raise ValueError(f"what its tokens are as text is not known here (decoder: {', '.join(sorted(self.kinds)) or 'none'}): "
                         "name rollout.stop_token_ids in the place of rollout.stop")

    def vocab_size(self):
        return max(self.library.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def id_of(self, token):
        return self.library.token_to_id(token)

    def token_of(self, at):
        return self.library.id_to_token(at)

    def encode(self, texts, special):
        return [one.ids for one in self.library.encode_batch_fast(texts, add_special_tokens=special)]

    def encode_spans(self, text, spans):
        """Ids and, for each, whether it is inside one of the spans of characters."""
        encoding = self.library.encode(text, add_special_tokens=False)
        inside = bytearray(len(encoding.ids))
        for begin, end in spans:
            first, last = encoding.char_to_token(begin), encoding.char_to_token(end - 1)
            if first is None:
                break
            stop = last + 1 if last else len(inside)
            inside[first:stop] = b"\x01" * max(0, stop - first)
        return encoding.ids, bytes(inside)

    def decode(self, ids):
        return self.library.decode(ids, skip_special_tokens=False)


class SentencePieceTokenizer:
    """A directory with only a SentencePiece model. Special tokens in the text are cut out first, as transformers does."""

    def __init__(self, files, path):
        import sentencepiece

        self.library = sentencepiece.SentencePieceProcessor(model_file=str(path))
        for name, at in (("bos_token", self.library.bos_id()), ("eos_token", self.library.eos_id()),
                         ("unk_token", self.library.unk_id())):
            if at >= 0:
                files.named.setdefault(name, self.library.id_to_piece(at))
        self.special = {token: self.library.piece_to_id(token) for token in files.named.values()}
        self.size = self.library.get_piece_size()
        for at, token in files.added_tokens():
            self.special[token["content"]] = at
            self.size = max(self.size, at + 1)
        self.special_of = {at: token for token, at in self.special.items()}
        longest_first = sorted(self.special, key=len, reverse=True)
        self.cut = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self.begins = bool(files.config.get("add_bos_token", False)) and self.library.bos_id() >= 0
        self.ends = bool(files.config.get("add_eos_token", False)) and self.library.eos_id() >= 0
        self.legacy = bool(files.config.get("legacy", False))
        self.wall = self.library.encode(WALL)

    def vocab_size(self):
        return self.size

    def id_of(self, token):
        return self.special.get(token, self.library.piece_to_id(token))

    def token_of(self, at):
        return self.special_of.get(at) or self.library.id_to_piece(at)

    def encode_one(self, text, special):
        ids = [self.library.bos_id()] if special and self.begins else []
        for index, piece in enumerate(self.cut.split(text)):
            if index % 2 == 1:
                ids.append(self.special[piece])
            elif piece and (self.legacy or index == 0) and piece[0] not in " ▁":
                ids += self.library.encode(piece)
            elif piece:  # the library would put a space in front, which is wanted once and where there is none
                ids += self.library.encode(WALL + piece)[len(self.wall):]
        return ids + ([self.library.eos_id()] if special and self.ends else [])

    def encode(self, texts, special):
        return [self.encode_one(text, special) for text in texts]

    def encode_spans(self, text, spans):
        raise ValueError("targets by turn need the offsets of tokenizer.json, this directory has a SentencePiece model alone: "
                         "convert it with transformers, or leave out data.assistant_only_loss")

    def bytes_of(self, at):
        if at in self.special_of:
            return self.special_of[at].encode()
        if at >= self.library.get_piece_size() or self.library.is_control(at) or self.library.is_unknown(at):
            return b""
        return piece_bytes(self.library.id_to_piece(at))

    def decode(self, ids):
        return self.library.decode(ids)


def open_tokenizer(files):
    if (files.folder / "tokenizer.json").is_file():
        return JsonTokenizer(files)
    for name in SENTENCEPIECE:
        if (files.folder / name).is_file():
            return SentencePieceTokenizer(files, files.folder / name)
    raise ValueError(f"{files.folder} has neither tokenizer.json nor a SentencePiece model ({', '.join(SENTENCEPIECE)}): "
                     "save the tokenizer there with transformers, or name another directory in data.tokenizer")
