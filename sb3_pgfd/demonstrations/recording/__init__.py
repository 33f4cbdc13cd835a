"""Recording demonstrations from a policy, a script or a person, and interventions."""

from sb3_pgfd.demonstrations.recording.interventions import InterventionWrapper, Person
from sb3_pgfd.demonstrations.recording.person import record_person
from sb3_pgfd.demonstrations.recording.policy import Policy, record
from sb3_pgfd.demonstrations.recording.session import Session

__all__ = ["InterventionWrapper", "Person", "Policy", "Session", "record", "record_person"]
