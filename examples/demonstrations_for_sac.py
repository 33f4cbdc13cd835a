"""Demonstrations for SB3's own algorithms: half of each batch, with 3-step returns (sampling as in RLPD)."""

from stable_baselines3 import SAC

from sb3_pgfd import DemoReplayBuffer

if __name__ == "__main__":
    model = SAC(
        "MlpPolicy",
        "Pendulum-v1",
        replay_buffer_class=DemoReplayBuffer,
        replay_buffer_kwargs={"demonstrations": "Pendulum-v1", "demo_fraction": 0.5, "n_steps": 3, "gamma": 0.99},
        seed=0,
    )
    model.learn(1_000, progress_bar=True)
