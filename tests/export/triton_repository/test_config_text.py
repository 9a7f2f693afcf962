from propetl.export.triton_repository.config_text import Name, config_text


def test_messages_lists_names_and_texts():
    message = {
        "name": 'a "quoted" one',
        "max_batch_size": 8,
        "kind": Name("KIND_GPU"),
        "dims": [-1, 3],
        "left_out": None,
        "step": [{"model": "x"}, {"model": "y"}],
        "reshape": {"shape": []},
        "flag": True,
    }
    assert config_text(message).splitlines() == [
        'name: "a \\"quoted\\" one"',
        "max_batch_size: 8",
        "kind: KIND_GPU",
        "dims: -1",
        "dims: 3",
        "step {",
        '  model: "x"',
        "}",
        "step {",
        '  model: "y"',
        "}",
        "reshape {",
        "}",
        "flag: true",
    ]
