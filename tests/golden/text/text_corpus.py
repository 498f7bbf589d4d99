"""Lines that are hard to tokenise, the same for the same seed: prose in six scripts, code, emoji, control characters, long runs,
special tokens inside text. Of our own making."""
import random

WORDS = {
    "latin": "the river keeps its own time and nobody who lives beside it owns a watch because bread rises when it wants to "
             "naïve façade Ångström coöperate señor Größe doesn't we'll they've I'm 12 3456 7,890.12 x² H₂O",
    "greek": "η θάλασσα δεν ρωτάει ποτέ τον άνεμο γιατί ξέρει την απάντηση",
    "cyrillic": "река не спешит и всё же приходит вовремя потому что дорога знает её имя",
    "arabic": "النهر لا يسأل عن الوقت لأن الوقت يجري معه كل يوم",
    "devanagari": "नदी अपने समय पर चलती है और कोई उसे नहीं रोकता",
    "han": "河水不问时间 桥在等人 山里有风 今天的面包很好 天気がいいから歩く",
}
CODE = ["def f(x):\n    return x ** 2 + 1  # square", "for (int i = 0; i < n; ++i) { sum += a[i]; }", "SELECT * FROM t WHERE a >= 1;\r\n",
        "\t\tif err != nil {\n\t\t\treturn err\n\t\t}", "<div class=\"a\">&amp;</div>", "0x1F, 1e-6, 3.14159", "https://example.org/a?b=c&d=%20e"]
EMOJI = ["🙂", "👩‍👩‍👧‍👦", "🏳️‍🌈", "❤️", "e\u0301", "ﬁ", "Ⅷ", "\u200b", "\u00a0", "\ufeff", "𝔘𝔫𝔦"]
CONTROL = ["\x00", "\x01\x02", "\x1b[0m", "\x7f", "\x85", "\u2028", "\r", "\n\n\n", "\t", "     ", "\ufffd"]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|eot_id|>", "<s>", "</s>", "<unk>", "<0x41>", "▁", "<|im_start"]


def line(rng):
    kind = rng.randrange(10)
    if kind < 5:
        words = WORDS[rng.choice(sorted(WORDS))].split()
        return " ".join(rng.choice(words) for _ in range(rng.randint(1, 24)))
    if kind == 5:
        return rng.choice(CODE) + rng.choice(["", "\n", " "]) + rng.choice(CODE)
    if kind == 6:
        return rng.choice("a1 .-=\n字e") * rng.randint(1, 400)
    parts = [*EMOJI, *CONTROL, *SPECIAL, *WORDS["latin"].split(), " ", "  ", ""]
    return "".join(rng.choice(parts) for _ in range(rng.randint(0, 16)))


def lines(count, seed):
    rng = random.Random(seed)
    return [line(rng) for _ in range(count)]
