"""Rollouts around one trajectory: the trajectory is read once, and every branch continues from its keys and values.

V is sampled by branches, or bounded without sampling error by the tree of continuations.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import RunError
from interp.models.language.model import LanguageModel
from interp.models.language.sampling import Job, Policy, draw, stream
from probes.critical_tokens.problems import Outcome, Problem
from probes.critical_tokens.responses import Setting, decode, prompt_ids
from probes.critical_tokens.scores import branch_points, branches_needed

# ---------------------------------------------------------------------- the tree of continuations

FLOOR = 1e-6
"""Continuations less likely than this are not followed; their mass stays between the bounds."""
_AT_ONCE = 8
Step = Callable[[Sequence[tuple[int, ...]]], Float[Tensor, "text vocabulary"]]
"""The policy's next-token probabilities after each continuation."""


class Bracket(NamedTuple):
    """Bounds that hold V for certain, and how many continuations were read."""

    low: float
    high: float
    n_nodes: int


def enumerate_value(
    step: Step,
    ended: Callable[[tuple[int, ...]], bool],
    right: Callable[[tuple[int, ...]], bool],
    *,
    room: int,
    gap: float = 0.01,
    most_nodes: int = 1000,
) -> Bracket:
    """Returns bounds on the chance that a continuation is right: low is the mass of finished right ones, 1 − high of wrong ones.

    Reads the likeliest unfinished continuations first and stops when the bounds are within `gap`, or after most_nodes.
    A continuation of `room` tokens has ended.
    """
    low, wrong, n_nodes = 0.0, 0.0, 0
    heap: list[tuple[float, tuple[int, ...]]] = [(-1.0, ())]
    while heap and n_nodes < most_nodes and 1 - wrong - low > gap:
        taken = [heapq.heappop(heap) for _ in range(min(_AT_ONCE, len(heap), most_nodes - n_nodes))]
        probability = step([text for _, text in taken])
        n_nodes += len(taken)
        for (negative, text), row in zip(taken, probability, strict=True):
            mass = -negative * row
            for token in (mass >= FLOOR).nonzero().flatten().tolist():
                longer, share = (*text, token), float(mass[token])
                if not (ended(longer) or len(longer) == room):
                    heapq.heappush(heap, (-share, longer))
                elif right(longer):
                    low += share
                else:
                    wrong += share
    return Bracket(min(1.0, low), max(0.0, 1 - wrong), n_nodes)


# ---------------------------------------------------------------------- one trajectory


class Branch(NamedTuple):
    """What follows after leaving the trajectory: the token written instead, the tokens after it, and how it came out."""

    token_ids: list[int]
    ended: bool
    outcome: Outcome


Place = tuple[int, int]
"""How many tokens of the trajectory are kept, and which draw it is."""
Branches = dict[Place, Branch]
HALF = ("bfloat16", "float16")
"""Types in which a text read again gives other probabilities than those it was drawn with."""


def with_own(
    probability: Float[Tensor, " vocabulary"],
    logits: Float[Tensor, " vocabulary"],
    policy: Policy,
    token_id: int,
    p: float,
) -> Float[Tensor, " vocabulary"]:
    """Returns the policy's probabilities with p for one token and 1 − p shared among the others in proportion.

    Where the policy leaves no other token here, they are what it draws when that token is forbidden.
    """
    others = probability.clone()
    others[token_id] = 0
    if not float(others.sum()) > 0:
        masked = logits.clone()
        masked[token_id] = -torch.inf
        others = policy.distribution(masked).probability
    others = others * ((1 - p) / others.sum())
    others[token_id] = p
    return others


class Explorer:
    """One trajectory of one model, read once."""

    def __init__(
        self,
        model: LanguageModel,
        problem: Problem,
        key: str,
        token_ids: Sequence[int],
        setting: Setting,
        draw_probability: Sequence[float] = (),
        thought: Sequence[int] = (),
    ) -> None:
        """Reads prompt, thought (which counts as the end of the prompt) and trajectory in one teacher-forced pass.

        `draw_probability` is what each token was drawn with. In half precision it is the p that counts, since the same text read
        again may give another one, even 0 (see `with_own`). In float32 the two agree to the last digits, and the one read here
        counts, which does not depend on the batch.
        Raises RunError for a token that the policy never draws, here or when it was drawn.
        """
        self.model, self.problem, self.setting = model, problem, setting
        self.key, self.token_ids = key, list(token_ids)
        prompt = [*prompt_ids(model, problem.prompt, setting), *thought]
        self._prompt_tokens = len(prompt)
        self._spine = model.prefix(prompt[:-1]).fork(1)
        logits = model.extend(self._spine, [[prompt[-1], *self.token_ids[:-1]]], logits="all")[0]
        self.logits: Float[Tensor, "token vocabulary"] = logits
        """Raw next-token logits before each token of the trajectory."""
        self.probability: Float[Tensor, "token vocabulary"] = setting.policy.distribution(logits).probability
        """The policy's next-token probabilities before each token of the trajectory, with p for its own token."""
        own = torch.tensor(self.token_ids, device=logits.device)
        self.reread_p: Float[np.ndarray, " token"] = self.probability.gather(1, own[:, None]).squeeze(1).cpu().numpy()
        """The probability of each token as this pass gives it."""
        self.draw_p = np.minimum(1, np.array(draw_probability or self.reread_p, dtype=float))
        """The probability that each token was drawn with; as read here where that is not known."""
        counts = model.identity.dtype in HALF or self.reread_p == 0
        self.p: Float[np.ndarray, " token"] = np.where(counts, self.draw_p, self.reread_p)
        """The policy's probability of each token of the trajectory."""
        if (self.p == 0).any():
            raise RunError(
                f"{key} holds a token that the policy never draws (number {int((self.p == 0).argmax())}): give trajectories "
                "sampled under the same --temperature, --top-p and --top-k."
            )
        for at in (self.p != self.reread_p).nonzero()[0].tolist():
            self.probability[at] = with_own(
                self.probability[at], logits[at], setting.policy, self.token_ids[at], float(self.p[at])
            )

    def added_text(self, kept: int, token_id: int) -> str:
        """Returns what a token adds to the first `kept` tokens of the trajectory."""
        before = self.model.tokenizer.decode(self.token_ids[:kept], clean_up_tokenization_spaces=False)
        after = self.model.tokenizer.decode([*self.token_ids[:kept], token_id], clean_up_tokenization_spaces=False)
        return str(after)[len(str(before)) :]

    # ------------------------------------------------------------------ random numbers

    def _uniforms(self, arm: str, kept: int, index: int) -> tuple[float, float]:
        """The coin and the replacement of draw `index` at a token: the same whatever else is drawn."""
        generator = stream(self.setting.seed, self.key, arm, kept, index)
        return float(generator.random()), float(generator.random())

    def coins(self, arm: str, n_draws: int) -> Bool[np.ndarray, "token draw"]:
        """Returns for each draw whether it writes the trajectory's token too."""
        uniform = [
            [self._uniforms(arm, kept, index)[0] for index in range(n_draws)] for kept in range(len(self.token_ids))
        ]
        return np.array(uniform).reshape(len(self.token_ids), n_draws) < self.p[:, None]

    def branch_points(self, arm: str, n_draws: int) -> Int[np.ndarray, "kept draw"]:
        """Returns where each draw from each number of kept tokens leaves the trajectory."""
        return branch_points(self.coins(arm, n_draws))

    # ------------------------------------------------------------------ rollouts

    def branches(self, wanted: Mapping[str, Sequence[Place]]) -> dict[str, Branches]:
        """Returns branches (token, draw) by arm: the trajectory's token is forbidden there, another drawn in its place.

        All are written in one batch: what a branch writes depends on its arm, token and draw alone.
        """
        keys = [(arm, *place) for arm, places in wanted.items() for place in places]
        starts = []
        for arm, kept, index in keys:
            allowed = self.probability[kept].clone()
            allowed[self.token_ids[kept]] = 0
            uniform = torch.tensor([self._uniforms(arm, kept, index)[1]], dtype=allowed.dtype, device=allowed.device)
            starts.append(int(draw(allowed[None], uniform)[0]))
        written = dict(zip(keys, self._continued(keys, starts), strict=True))
        return {arm: {place: written[arm, *place] for place in places} for arm, places in wanted.items()}

    def independent(self, arm: str, wanted: Sequence[Place]) -> Branches:
        """Returns rollouts (kept tokens, draw) of the plain kind: nothing forbidden, nothing shared. The oracle's way."""
        kept = torch.tensor([n for n, _ in wanted], dtype=torch.long, device=self.probability.device)
        uniform = torch.tensor([self._uniforms(arm, *one)[1] for one in wanted], dtype=self.probability.dtype)
        starts = [
            int(draw(self.probability[n][None], u[None].to(kept.device))[0]) for n, u in zip(kept, uniform, strict=True)
        ]
        keys = [(arm, *place) for place in wanted]
        return dict(zip(wanted, self._continued(keys, starts), strict=True))

    @torch.inference_mode()
    def exact_value(self, kept: int, *, most_nodes: int, gap: float = 0.01) -> Bracket:
        """Returns bounds on V after `kept` tokens (fewer than all) that hold for certain: see enumerate_value."""
        before = self.token_ids[:kept]

        def step(texts: Sequence[tuple[int, ...]]) -> Float[Tensor, "text vocabulary"]:
            if texts == [()]:
                return self.probability[kept][None]
            rows = self._spine.select([0] * len(texts))
            rows.crop(self._prompt_tokens + kept)
            logits = self.model.extend(rows, [list(text) for text in texts], phase="decode")[:, -1]
            return self.setting.policy.distribution(logits).probability

        def right(text: tuple[int, ...]) -> bool:
            return self.problem.outcome(decode(self.model, [*before, *text])) == "right"

        room = self.setting.max_new_tokens - kept
        return enumerate_value(step, self.setting.stop.ended, right, room=room, gap=gap, most_nodes=most_nodes)

    def _continued(self, keys: Sequence[tuple[str, int, int]], starts: Sequence[int]) -> list[Branch]:
        jobs = [
            Job(
                kept=self._prompt_tokens + kept,
                pending=(start,),
                room=max(0, self.setting.max_new_tokens - kept - 1),
                key=(self.setting.seed, self.key, arm, kept, index, "on"),
            )
            for (arm, kept, index), start in zip(keys, starts, strict=True)
        ]
        rollouts = self.setting.write(self.model, self._spine, jobs)
        return [
            Branch(
                [start, *rollout.token_ids],
                rollout.ended,
                self.problem.outcome(decode(self.model, [*self.token_ids[:kept], start, *rollout.token_ids])),
            )
            for (_, kept, _), start, rollout in zip(keys, starts, rollouts, strict=True)
        ]


@dataclass
class Pool:
    """The draws of one arm around one trajectory, made when they are asked for; branches are shared between positions."""

    arm: str
    points: Int[np.ndarray, "kept draw"]
    roll: Callable[[Mapping[str, Sequence[Place]]], dict[str, Branches]]
    own_outcome: Outcome
    branches: Branches

    @classmethod
    def around(cls, explorer: Explorer, arm: str, n_draws: int, own_outcome: Outcome) -> "Pool":
        """Returns the empty pool of an arm."""
        return cls(arm, explorer.branch_points(arm, n_draws), explorer.branches, own_outcome, {})

    def make(self, kept: Iterable[int], draws: slice = slice(None)) -> None:
        """Makes what the draws from these numbers of kept tokens need and what is not there yet."""
        self.branches |= self.roll({self.arm: self.missing(kept, draws)})[self.arm]

    def missing(self, kept: Iterable[int], draws: slice = slice(None)) -> list[Place]:
        """Returns the branches that the draws from these numbers of kept tokens need and that are not there yet."""
        first = draws.indices(self.points.shape[1])[0]
        needed = [(at, first + r) for at, r in branches_needed(self.points[:, draws], kept)]
        return [place for place in needed if place not in self.branches]

    def outcome(self, kept: int, index: int) -> Outcome:
        """Returns how draw `index` from `kept` tokens came out; it must have been made."""
        point = int(self.points[kept, index])
        return self.own_outcome if point == len(self.points) - 1 else self.branches[point, index].outcome
