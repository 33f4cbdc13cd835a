"""Push trained agents of the RL Zoo to the Hugging Face hub, and load them from it."""

import argparse
import json
import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from sb3_pgfd.utils.files import write_whole
from sb3_pgfd.zoo.agents import film, load_agent

_METRICS = "train_eval_metrics.zip"
_CARD = """---
{metadata}
---

# **{algorithm}** Agent playing **{env}**

Made with [Stable-Baselines3](https://github.com/DLR-RM/stable-baselines3), the
[RL Zoo](https://github.com/DLR-RM/rl-baselines3-zoo) and sb3-pgfd.

```bash
pip install "sb3-pgfd[zoo]"
TRUST_REMOTE_CODE=True sb3-pgfd load-from-hub --algo {algo} --env {env} -orga {organization} -f logs/
sb3-pgfd enjoy --algo {algo} --env {env} -f logs/
```

Train it again: `sb3-pgfd train --algo {algo} --env {env}`. Its hyperparameters are in `config.yml`.
"""


def push_to_hub(options: argparse.Namespace) -> None:
    """Evaluate and film an agent, and upload it to the Hugging Face hub with the file names of the Zoo."""
    import yaml
    from huggingface_hub import EvalResult, HfApi, ModelCardData
    from huggingface_sb3 import ModelName

    if not options.no_render:
        options.env_kwargs = {**(options.env_kwargs or {}), "render_mode": "rgb_array"}
    agent, name, env_id = load_agent(options), ModelName(options.algo, options.env), options.env.gym_id
    run = agent.model_path.parent
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        mean, std = evaluate_policy(agent.model, agent.env, n_eval_episodes=10, deterministic=agent.deterministic)
        results = {"mean_reward": mean, "std_reward": std, "n_eval_episodes": 10, "is_deterministic": agent.deterministic}
        (folder / "results.json").write_text(json.dumps(results))
        if not options.no_render:
            film(agent, options.n_timesteps, folder / "replay.mp4")
        agent.env.close()
        shutil.copy(agent.model_path, folder / name.filename)
        for settings in ("args.yml", "config.yml"):
            shutil.copy(run / options.env / settings, folder / settings)
        kept = {key: value for key, value in agent.env_kwargs.items() if key != "render_mode"}
        (folder / "env_kwargs.yml").write_text(yaml.dump(kept))
        if (statistics := unwrap_vec_normalize(agent.env)) is not None:
            statistics.save(str(folder / "vec_normalize.pkl"))
        with zipfile.ZipFile(folder / _METRICS, "w") as archive:
            for path in (*run.glob("evaluations.npz"), *run.glob("*.csv")):
                archive.write(path, path.name)
        algorithm, task = type(agent.model).__name__, "reinforcement-learning"
        result = EvalResult(task, env_id, env_id, "mean_reward", f"{mean:.2f} +/- {std:.2f}", task, metric_name="mean_reward")
        tags = [env_id, "deep-reinforcement-learning", task, "stable-baselines3"]
        metadata = ModelCardData(library_name="stable-baselines3", tags=tags, model_name=algorithm, eval_results=[result])
        words = {"algo": options.algo, "env": env_id, "organization": options.organization, "algorithm": algorithm}
        (folder / "README.md").write_text(_CARD.format(metadata=metadata.to_yaml(), **words), encoding="utf-8")
        repository = f"{options.organization}/{options.repo_name or name}"
        print(f"Uploading to {repository}")
        url = HfApi().create_repo(repo_id=repository, exist_ok=True)
        HfApi().upload_folder(repo_id=repository, folder_path=folder, commit_message=options.commit_message)
    print(f"The agent is at {url}")


def load_from_hub(options: argparse.Namespace) -> None:
    """
    Download an agent that :func:`push_to_hub` or the Zoo has uploaded, into a run of its own.

    :raises ValueError: If ``TRUST_REMOTE_CODE`` is not set: a downloaded model is unpickled
    """
    from huggingface_hub import HfApi
    from huggingface_sb3 import ModelName, load_from_hub
    from rl_zoo3.utils import get_latest_run_id

    model, env, parent = ModelName(options.algo, options.env), options.env, Path(options.folder, options.algo)
    repository = f"{options.organization}/{options.repo_name or model}"
    print(f"Downloading from https://huggingface.co/{repository}")
    places = {model.filename: f"{env}.zip", _METRICS: _METRICS}
    places |= {name: f"{env}/{name}" for name in ("config.yml", "args.yml", "env_kwargs.yml")}
    downloaded = {place: load_from_hub(repository, name) for name, place in places.items()}
    if HfApi().file_exists(repository, "vec_normalize.pkl"):
        downloaded[f"{env}/vecnormalize.pkl"] = load_from_hub(repository, "vec_normalize.pkl")
    number = options.exp_id or get_latest_run_id(str(parent), env) + 1
    run = parent / f"{env}_{number}" if number > 0 else parent
    # Without a number the folder holds all runs of the algorithm: never replace it
    with write_whole(run, overwrite=options.force and number > 0, folder=True) as folder:
        (folder / env).mkdir()
        for place, file in downloaded.items():
            shutil.copy(file, folder / place)
        with zipfile.ZipFile(folder / _METRICS) as archive:
            archive.extractall(folder)
        (folder / _METRICS).unlink()
    print(f"The run is in {run}")
