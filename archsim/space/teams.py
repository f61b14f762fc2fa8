"""Teams of agents that share a design: which agent decides which parameters.

A team is a partition of the parameters, so a team reaches exactly the designs one agent reaches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from archsim.errors import InputError

if TYPE_CHECKING:
    from archsim.space.design_space import DesignSpace

#: Ways of dividing a space that have a name.
GROUPINGS: tuple[str, ...] = ("parameter", "role", "one")
#: Agent -> the parameters (or whole roles) it decides; or one of :data:`GROUPINGS`.
Grouping = str | Mapping[str, Sequence[str]]
#: Agent -> the parameters it decides, in the order of the space.
Team = dict[str, tuple[str, ...]]


def team_of(
    space: DesignSpace,
    agents: Grouping = "role",
    subsystems: Mapping[str, str] | None = None,
) -> Team:
    """Divide the parameters of a space among agents.

    Args:
        space: The design space.
        agents: ``parameter`` (one agent a parameter), ``role`` (one agent a role, or a subsystem),
            ``one`` (a single agent, ``designer``), or agent -> names of parameters or roles. Of a
            role an agent gets the parameters that nobody names.
        subsystems: Agent by role, for ``role``: roles of one agent are decided together. A role
            that is not listed is an agent of its own name.

    Returns:
        Agents in the order of their first parameters (of a mapping: in its order); every parameter
        belongs to exactly one.

    Raises:
        InputError: Unknown grouping, agent without a parameter, or a parameter or role that is
            unknown, named twice, or left out.

    Example:
        >>> from archsim.space import DesignSpace, Parameter
        >>> space = DesignSpace([
        ...     Parameter("rows", (4, 8)), Parameter("kib", (16, 32), role="memory"),
        ...     Parameter("columns", (4, 8)), Parameter("flow", ("a", "b"), role="mapping")])
        >>> team_of(space, "role", {"mapping": "dataflow"})
        {'compute': ('rows', 'columns'), 'memory': ('kib',), 'dataflow': ('flow',)}
        >>> team_of(space, {"array": ["compute", "mapping"], "buffer": ["kib"]})
        {'array': ('rows', 'columns', 'flow'), 'buffer': ('kib',)}
    """
    if isinstance(agents, Mapping):
        return _explicit(space, agents)
    if agents == "parameter":
        owner = {name: name for name in space.names}
    elif agents == "role":
        named = subsystems or {}
        owner = {p.name: named.get(p.role, p.role) for p in space.parameters}
    elif agents == "one":
        owner = dict.fromkeys(space.names, "designer")
    else:
        raise InputError(
            "unknown grouping",
            field="agents",
            found=agents,
            expected=f"{', '.join(GROUPINGS)}, or agent: [parameters]",
        )
    return {
        agent: tuple(name for name in space.names if owner[name] == agent)
        for agent in dict.fromkeys(owner.values())
    }


def _explicit(space: DesignSpace, agents: Mapping[str, Sequence[str]]) -> Team:
    """A team that is spelled out."""
    roles = space.roles()
    owner: dict[str, str] = {}
    taken: dict[str, str] = {}
    for agent, items in agents.items():
        if not isinstance(agent, str) or not agent or isinstance(items, str) or not len(items):
            raise InputError(
                "an agent has a name and a list of parameters or roles",
                field="agents",
                found={agent: items},
            )
        for item in items:
            if item not in space.names and item not in roles:
                raise InputError(
                    "neither a parameter nor a role of the space",
                    field=f"agents.{agent}",
                    found=item,
                    expected=", ".join((*space.names, *roles)),
                )
            if item in taken or item in owner:
                raise InputError(
                    f"{owner.get(item, taken.get(item))!r} has it already",
                    field=f"agents.{agent}",
                    found=item,
                )
            (owner if item in space.names else taken)[item] = agent
    for role, agent in taken.items():
        for name in roles[role]:
            owner.setdefault(name, agent)
    missing = [name for name in space.names if name not in owner]
    if missing:
        raise InputError("no agent decides this parameter", field="agents", found=missing[0])
    team = {agent: tuple(n for n in space.names if owner[n] == agent) for agent in agents}
    idle = [agent for agent, names in team.items() if not names]
    if idle:
        raise InputError("others decide all it would", field=f"agents.{idle[0]}", found=idle[0])
    return team
