"""Recording demonstrations from a policy, a script or a person."""

from sb3_pgfd.demonstrations.recording.person import record_person
from sb3_pgfd.demonstrations.recording.policy import Policy, record
from sb3_pgfd.demonstrations.recording.session import Session

__all__ = ["Policy", "Session", "record", "record_person"]
