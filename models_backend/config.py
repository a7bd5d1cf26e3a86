"""Settings of the GPU house, each from the environment and each with a working default."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_MODEL = "smollm2-135m-instruct"


class Settings(BaseSettings):
    """`DIPTYCH_HOME`, `DIPTYCH_THREADS` ... as fields; `REDIS_URL` keeps the name the rest of the world gives it."""

    model_config = SettingsConfigDict(env_prefix="DIPTYCH_", extra="ignore")

    home: Path = Path("var")
    redis_url: str = Field(default="", validation_alias="REDIS_URL")
    # "fake" answers without a model: for tests and for work on the page; "remote" has no models on this machine
    engine: Literal["torch", "fake", "remote"] = "torch"
    fake_delay: float = Field(default=0.0, ge=0, le=10_000)  # ms between two tokens of the fake engine
    model: str = DEFAULT_MODEL  # in memory before the worker calls itself ready; the others load when first asked for
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    # "auto": on a CPU 4- or 8-bit weights where their answers stay close to float32's; elsewhere as `loader` says
    precision: Literal["auto", "float32"] = "auto"
    threads: int | None = Field(default=None, ge=1, le=1024)  # None: as many as there are cores
    slots: int = Field(default=8, ge=1, le=256)  # lanes that one base answers at the same time
    context: int = Field(default=4096, ge=64, le=1_048_576)  # tokens a lane may reach, if its model can
    queue: int = Field(default=1000, ge=1, le=1_000_000)  # lanes that may wait in one engine
    # MiB of adapters that one base keeps in memory; those not used for longest make room for others
    adapter_memory: int = Field(default=1024, ge=1, le=1 << 20)
    remote_url: str = ""  # an OpenAI-compatible server that answers too
    remote_key: SecretStr = SecretStr("")  # its key
    remotes: str = ""  # several servers: a TOML file, or JSON

    @property
    def bus_url(self) -> str:
        return self.redis_url or f"unix://{(self.home / 'bus.sock').absolute()}"
