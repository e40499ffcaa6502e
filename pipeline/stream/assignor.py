"""Which worker of a migration applies which stream.

Faust's own assignor gives partition 0 of every topic to one and the same worker, since topics of as many partitions are taken for parts of
one table: of several streams, each a topic of one partition, all others would never get any. Here every stream is by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from aiokafka.cluster import ClusterMetadata
from faust.assignor.client_assignment import ClientAssignment
from faust.assignor.partition_assignor import MemberAssignmentMapping, MemberMetadataMapping, PartitionAssignor


def shared_out(streams: Mapping[str, Set[str]], held: Mapping[str, Set[str]]) -> dict[str, set[str]]:
    """Streams by worker. `streams`: what each worker is there for; `held`: what it had so far.

    No worker has two more than another that is there for the same, and as few as can be change hands: opening a stream costs a moment.
    The same for whoever asks, whatever the order.
    """
    found: dict[str, set[str]] = {worker: set() for worker in streams}
    every = sorted(set().union(*streams.values())) if streams else []
    most = -(-len(every) // max(1, len(found)))
    for stream in every:
        holder = min((w for w in found if stream in held.get(w, ()) and stream in streams[w]), default=None)
        if holder is not None and len(found[holder]) < most:
            found[holder].add(stream)
    for stream in every:
        if not any(stream in mine for mine in found.values()):
            able = [worker for worker in found if stream in streams[worker]]
            found[min(able, key=lambda worker: (len(found[worker]), worker))].add(stream)
    while (move := _evener(found, streams)) is not None:
        giver, taker, stream = move
        found[giver].discard(stream)
        found[taker].add(stream)
    return found


def _evener(found: Mapping[str, Set[str]], streams: Mapping[str, Set[str]]) -> tuple[str, str, str] | None:
    """A stream whose going from one worker to another makes them more alike."""
    for giver in sorted(found, key=lambda worker: (-len(found[worker]), worker)):
        for taker in sorted(found, key=lambda worker: (len(found[worker]), worker)):
            if len(found[giver]) - len(found[taker]) > 1:
                for stream in sorted(found[giver] & streams[taker], reverse=True):
                    return giver, taker, stream
    return None


class StreamAssignor(PartitionAssignor):
    """Faust's assignor, with streams shared out one by one. Its protocol is Faust's own: the group's leader decides for all."""

    def _perform_assignment(self, cluster: ClusterMetadata, member_metadata: MemberMetadataMapping) -> MemberAssignmentMapping:
        known = {member: self._get_client_metadata(metadata) for member, metadata in member_metadata.items()}
        self._update_member_urls(known)
        streams = {
            member: {topic for topic in metadata.subscription if cluster.partitions_for_topic(topic)}
            for member, metadata in member_metadata.items()
        }
        held = {member: set(metadata.assignment.actives) for member, metadata in known.items()}
        assignments = {
            member: ClientAssignment(actives={topic: sorted(cluster.partitions_for_topic(topic) or ()) for topic in topics}, standbys={})
            for member, topics in shared_out(streams, held).items()
        }
        groups = {topic: at for at, topic in enumerate(sorted(set().union(*streams.values())))}
        distribution = self._get_external_topic_distribution(assignments)
        return self._protocol_assignments(assignments, self._get_changelog_distribution(assignments), distribution, groups)
