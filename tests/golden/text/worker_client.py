"""A text worker spoken to from Python, for scripts that hold it against transformers."""
import json
import pathlib
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]


class WorkerClient:
    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", ROOT / "src/data/text/worker/text_worker.py", ROOT / ".deps/text", folder, "10", "16384"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        greeting = self.receive()
        assert greeting[:1] == b"H", greeting.decode()
        self.facts = json.loads(greeting[1:])

    def receive(self):
        (length,) = struct.unpack("<I", self.process.stdout.read(4))
        return self.process.stdout.read(length)

    def ask(self, payload):
        self.process.stdin.write(struct.pack("<I", len(payload)) + payload)
        self.process.stdin.flush()
        return self.receive()

    @staticmethod
    def requests(verb, texts, kind, flags):
        payload = struct.pack("<cI", verb, len(texts))
        for text in texts:
            text = text if isinstance(text, bytes) else text.encode()
            payload += struct.pack("<BBI", kind, flags, len(text)) + text
        return payload

    def encode(self, texts, kind=0, flags=0):
        """(ids, marks or None) or an error's text for each."""
        answer, at, found = self.ask(self.requests(b"E", texts, kind, flags)), 1, []
        for _ in texts:
            status, length = struct.unpack_from("<BI", answer, at)
            at += 5
            if status:
                found.append(answer[at:at + length].decode())
                at += length
                continue
            ids = struct.unpack_from(f"<{length}i", answer, at)
            at += 4 * length + 1
            marks = None
            if answer[at - 1]:
                marks = list(answer[at:at + length])
                at += length
            found.append((list(ids), marks))
        return found

    def render(self, chats, generation_prompt=False):
        answer, at, found = self.ask(self.requests(b"R", [json.dumps(chat) for chat in chats], 1, 2 if generation_prompt else 0)), 1, []
        for _ in chats:
            status, length = struct.unpack_from("<BI", answer, at)
            found.append(("error: " if status else "") + answer[at + 5:at + 5 + length].decode())
            at += 5 + length
        return found

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()
