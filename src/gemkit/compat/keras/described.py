"""What all stand-ins are: a name and settings, read back as Keras' own objects are."""

from typing import Any


class Described:
    """Keeps keyword arguments as attributes; `get_config` has them all."""

    usual_name = ""

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        self.name = name or self.usual_name
        self._settings = settings

    def __getattr__(self, name: str) -> Any:
        # Copying asks before there are any settings.
        settings = self.__dict__.get("_settings", {})
        if name not in settings:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return settings[name]

    def get_config(self) -> dict[str, Any]:
        """The settings and the name."""
        return {"name": self.name, **self._settings}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The object that `get_config` described."""
        return cls(**config)
