"""The part of a problem that export needs: comparing with PyTorch, and what folders for other tools say."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from propetl.problems.learning import Learning

if TYPE_CHECKING:
    from propetl.backbone import Backbone
    from propetl.export.other_tools.peft_heads import PeftHead
    from propetl.runtime.report import Comparison
    from propetl.runtime.rows import Text
    from propetl.runtime.session import Session
    from propetl.task import TaskSpec


class Exporting(Learning):
    """How a task is exported.

    Attributes:
        transformers_class: end of the name of transformers' class for it.
        problem_type: as transformers calls it; None where it has no name.
    """

    transformers_class: str = "ForSequenceClassification"
    problem_type: str | None = None

    # Comparing with PyTorch.

    def ask(self, session: "Session", task: str, texts: "Sequence[Text]") -> Any:
        """Answers of a session to rows, as :meth:`together` gives PyTorch's."""
        return session.run(task, texts)

    def ask_mixed(self, session: "Session", rows: "Sequence[tuple[str, Text]]") -> Sequence[Any]:
        """The same for rows of several tasks of which this is one, row by row."""
        return session.run_mixed(rows)

    @property
    def compare(self) -> "Callable[..., Comparison]":
        """The function that compares answers."""
        from propetl.runtime.report import compare_logits

        return compare_logits

    # Folders for transformers and PEFT.

    def transformers_files(self, backbone: "Backbone", task: "TaskSpec") -> Mapping[str, dict[str, Any]]:
        """Files of JSON, by name, that make a folder of graphs one of transformers' own."""
        names = task.labels or ("LABEL_0",)
        base = type(backbone.model.base_model).__name__.removesuffix("Model")
        config = backbone.model.config.to_dict() | {
            "architectures": [f"{base}{self.transformers_class}"],
            **({} if self.problem_type is None else {"problem_type": self.problem_type}),
            "id2label": {str(index): name for index, name in enumerate(names)},
            "label2id": {name: index for index, name in enumerate(names)},
            "num_labels": len(names),
        }
        return {"config.json": config}

    def peft_head(self, family: str, kind: str) -> "PeftHead":
        """Where PEFT keeps the head; ``kind`` is that of the bundle's heads.

        Raises:
            ConfigurationError: no class of transformers is known to have it.
        """
        from propetl.export.other_tools.peft_heads import row_head

        return row_head(family, kind)

    def load_arguments(self, task: "TaskSpec") -> str:
        """Further arguments of ``from_pretrained``, as Python writes them."""
        return f", num_labels={task.outputs}"

    def tokenizer_arguments(self, task: "TaskSpec") -> str:
        """Arguments of the tokenizer, as Python writes them: a text for each column."""
        if task.template is not None:
            return json.dumps("…", ensure_ascii=False)
        return ", ".join(json.dumps(f"{column} …", ensure_ascii=False) for column in task.columns)

    def use(self, task: "TaskSpec", head: "PeftHead") -> str:
        """The line of Python that answers."""
        first = "[:, 0]  # the first token's are the task's" if head.answers_tokens else ""
        return f"logits = model(**inputs).logits{first}"

    def meaning(self, task: "TaskSpec") -> str:
        """A sentence about answers."""
        labels = json.dumps(task.labels, ensure_ascii=False) if task.labels else "a regression: one value"
        return f"Labels, in the order of the logits: {labels}."
