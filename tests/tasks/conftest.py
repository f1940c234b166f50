import pytest

from reptile_np.tasks import omniglot


@pytest.fixture
def miniature_of_omniglot(monkeypatch, tmp_path, request):
    """The miniature in Omniglot's place, but not for the real data; a cache folder of the test's own."""
    from omniglot_miniature import content_of_the_miniature  # needs Pillow

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    if "data" not in request.fixturenames:
        monkeypatch.setattr(omniglot, "OFFICIAL", content_of_the_miniature())
