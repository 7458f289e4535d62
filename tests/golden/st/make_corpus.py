#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Seeds of the fuzzers safetensors, index and mlx_config, from the goldens here and a few attacks.

Run in this folder; writes ../../fuzz/corpus/{safetensors,index,mlx_config}/. Standard library only.
"""
import json
import os
import struct

OUT = "../../fuzz/corpus"


def put(target, name, data):
    os.makedirs(f"{OUT}/{target}", exist_ok=True)
    open(f"{OUT}/{target}/{name}", "wb").write(data)


def st(header, data=b""):
    header = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(header)) + header + data


def split(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    return raw[8:8 + n], len(raw) - 8 - n


for name in ("dtypes", "shapes", "mlx"):
    put("safetensors", name, open(f"{name}.safetensors", "rb").read())
E = '{"dtype":"U8","shape":[2],"data_offsets":[%d,%d]}'
put("safetensors", "empty", st("{}"))
put("safetensors", "padded", st("\t{}  "))
put("safetensors", "twice", st('{"a":' + E % (0, 2) + ',"\\u0061":' + E % (2, 4) + "}", b"abcd"))
put("safetensors", "hole", st('{"a":' + E % (0, 2) + ',"b":' + E % (3, 5) + "}", b"abcde"))
put("safetensors", "overlap", st('{"a":' + E % (0, 2) + ',"b":' + E % (1, 3) + "}", b"abc"))
put("safetensors", "overflow", st('{"a":{"dtype":"F64","shape":[4294967296,4294967296],'
                                  '"data_offsets":[0,18446744073709551615]}}'))
put("safetensors", "extra", st('{"a":{"x":[1e400,{"y":"\\ud800"}],"dtype":"F4","shape":[1,2],'
                               '"data_offsets":[0,1]}}', b"a"))
put("safetensors", "deep", st('{"a":{"x":' + "[" * 70 + "]" * 70 + "}}"))
put("index", "hf", open("hf_sharded/model.safetensors.index.json", "rb").read())
put("index", "mlx", open("mlx_index/sharded.json", "rb").read())
put("index", "paths", b'{"weight_map":{"a":"../x.safetensors","b":"/etc/x.safetensors"}}')
put("index", "escapes", b'{"weight_map":{"\\u0061":"m\\u002d1.safetensors","a":"m-1.safetensors"}}')


def mlx(name, config, header, data):
    put("mlx_config", name, struct.pack("<I", data << 1 | 1) + config + b"\0" + header)


for name in ("mlx_all", "mlx_null"):
    header, data = split(f"{name}/model.safetensors")
    mlx(name, json.dumps(json.load(open(f"{name}/config.json"))).encode(), header, data)
small = ('{"l.weight":{"dtype":"U32","shape":[2,16],"data_offsets":[0,128]},"l.scales":{"dtype":"BF16",'
         '"shape":[2,2],"data_offsets":[128,136]},"l.biases":{"dtype":"BF16","shape":[2,2],'
         '"data_offsets":[136,144]}}').encode()
mlx("affine", b'{"quantization":{"group_size":64,"bits":4,"l":{"bits":8,"group_size":32}}}', small, 144)
mlx("false", b'{"quantization":{"mode":"mxfp4","l":false}}', small, 144)
mlx("fp8", b'{"text_config":{"quantization_config":{"quant_method":"fp8"}}}',
    b'{"a.weight":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},'
    b'"a.weight_scale":{"dtype":"F32","shape":[],"data_offsets":[2,6]}}', 6)
mlx("modelopt", b'{"quantization":{"quant_algo":"FP8"}}', b"{}", 0)
