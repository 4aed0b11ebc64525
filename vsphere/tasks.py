"""Waits for vSphere tasks and answers the questions that hold them up."""

from collections.abc import Callable
from typing import Any

from vsphere.api import vim
from vsphere.calls import Calls
from vsphere.errors import VmAsks
from vsphere.faults import translate
from vsphere.properties import Properties, watch

TASK_PATHS = ("info.state", "info.error", "info.result")
SURE_ANSWERS = {"msg.uuid.altered": "copied"}  # question → word in the right choice


def wait_for_task(
    calls: Calls,
    task: Any,
    doing: str,
    limit_seconds: float,
    *,
    vm: Any = None,
    check_cancel: Callable[[], None] | None = None,
) -> Any:
    """Return the result of a task, answering questions of `vm` that have one right answer.

    Raises:
        VmAsks: the machine asks something else.
        TookTooLong: the task takes longer than `limit_seconds`.
        VSphereError: the task failed; the class tells why.
    """
    watched: dict[Any, tuple[str, ...]] = {task: TASK_PATHS}
    if vm is not None:
        watched[vm] = ("runtime.question",)
    answered: set[str] = set()

    def is_over(seen: dict[Any, Properties]) -> bool:
        question = seen.get(vm, {}).get("runtime.question") if vm is not None else None
        if question is not None and question.id not in answered:
            _answer(vim.VirtualMachine(vm._moId, calls.stub), question, doing)
            answered.add(question.id)
        return str(seen[task].get("info.state")) in ("success", "error")

    seen = calls.reading(
        doing,
        lambda content: watch(
            content,
            watched,
            is_over,
            doing=doing,
            limit_seconds=limit_seconds,
            check_cancel=check_cancel,
        ),
    )
    if str(seen[task]["info.state"]) == "error":
        fault = seen[task].get("info.error")
        raise translate(fault or vim.fault.VimFault(), doing) from fault
    return seen[task].get("info.result")


def _answer(vm: Any, question: Any, doing: str) -> None:
    ids = {message.id for message in question.message or ()} | {question.id}
    labels = {one.key: one.label or one.summary or "" for one in question.choice.choiceInfo or ()}
    for known, word in SURE_ANSWERS.items():
        for key, label in labels.items():
            if known in ids and word in label.lower():
                vm.AnswerVM(questionId=question.id, answerChoice=key)
                return
    offered = ", ".join(label for label in labels.values() if label)
    raise VmAsks(
        f"{doing}: the machine asks: {question.text.strip()} "
        f"({offered}). Answer it in the vSphere client, then try again."
    )
