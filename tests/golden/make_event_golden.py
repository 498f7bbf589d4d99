"""Writes events.tfevents: what TensorBoard's own writer makes of the events of tests/trainer/watch/event_records_test.cpp.

Run with tensorboard 2.21: python tests/golden/make_event_golden.py
"""
import pathlib

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData
from tensorboard.summary.writer.record_writer import RecordWriter

plugin = SummaryMetadata.PluginData(plugin_name="text", content=TextPluginData(version=0).SerializeToString())
yaml = TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
                   string_val=["    method: dpo\n    train:\n      max_steps: 3\n".encode()])
events = [
    Event(wall_time=1795675123.25, file_version="brain.Event:2"),
    Event(wall_time=1795675123.5, step=3, session_log=SessionLog(status=SessionLog.START)),
    Event(wall_time=1795675123.5, summary=Summary(value=[
        Summary.Value(tag="config", metadata=SummaryMetadata(plugin_data=plugin), tensor=yaml)])),
    Event(wall_time=1795675124.0, step=3, summary=Summary(value=[
        Summary.Value(tag="train/learning_rate", simple_value=0.0),
        Summary.Value(tag="train/loss", simple_value=0.6931471805599453),
        Summary.Value(tag="train/rewards/margins", simple_value=-1.5)])),
    Event(wall_time=1795675125.0, step=70000, summary=Summary(value=[
        Summary.Value(tag="eval/loss", simple_value=1e30)])),
]
with open(pathlib.Path(__file__).with_name("events.tfevents"), "wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
