"""The worked example of a schema: recorded sessions of tasks, their elements, and segments of several types inside the elements.

Times are seconds.
"""

from __future__ import annotations

from h5z.events.schema import Attribute, Entity, Relation, Schema


def _optional(**dtypes: str) -> tuple[Attribute, ...]:
    return tuple(Attribute(name, dtype, required=False) for name, dtype in dtypes.items())


RECORDED_SESSION = Schema(
    "recorded-session",
    (
        Entity(
            "task",
            (
                Attribute("task_type", "string"),
                Attribute("start_time", "float64"),
                *_optional(
                    end_time="float64",
                    duration="float64",
                    completion_status="string",
                    session_fraction_start="float64",
                    session_fraction_end="float64",
                    count="int32",
                    input_modality="string",
                    audio_mode="string",
                    skipped="bool",
                ),
            ),
            interval=("start_time", "end_time"),
        ),
        Entity(
            "element",
            (
                Attribute("element_type", "string"),
                Attribute("start_time", "float64"),
                *_optional(
                    end_time="float64",
                    duration="float64",
                    title="string",
                    is_instruction="bool",
                    sequence_idx="int32",
                    input_modality="string",
                    audio_mode="string",
                ),
            ),
            (Relation("task_id", "task"),),
            interval=("start_time", "end_time"),
        ),
        Entity(
            "segment",
            (
                Attribute("segment_type", "string", types=True),
                Attribute("start_time", "float64"),
                *_optional(end_time="float64", duration="float64", element_relative_start="float64"),
            ),
            (Relation("containing_element_id", "element"),),
            interval=("start_time", "end_time"),
        ),
    ),
)
