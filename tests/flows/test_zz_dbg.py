import cloudpickle, pytest
from flows.tasks import photos_task
def test_x(prefect_api, tmp_path):
    t = photos_task.with_options(result_storage=tmp_path, retries=1)
    for k, v in {**t.__dict__}.items():
        try: cloudpickle.dumps(v)
        except Exception as e: print("BAD", k, type(v), repr(e)[:200])
    fn = t.fn
    import types
    for name in fn.__code__.co_names:
        v = fn.__globals__.get(name)
        try: cloudpickle.dumps(v)
        except Exception as e: print("BADG", name, type(v), repr(e)[:200])
    from prefect.context import serialize_context
    try: cloudpickle.dumps(t)
    except Exception as e: print("BADT", e)
    from distributed.protocol.pickle import dumps
    assert 0
