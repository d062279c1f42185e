"""Tables: hostile files and DataFrames, kinds of columns, splits, round trips, streaming."""

import dataclasses
import gzip
import re
import sys

import numpy as np
import pandas
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keras_gen import data
from keras_gen._columns import Column, decode_array, encode_frame
from keras_gen.data import _csv, _kinds, _table_sources, tables

NAN = float("nan")
RANDOM = np.random.default_rng(0)


def in_order(table, rows=None):
    """Return all rows of a table that was read with `test_fraction=0`, in their order."""
    array = table.train if rows is None else rows
    order = np.random.default_rng(0).permutation(len(array))
    return array[np.argsort(order)]


def read(source, **arguments):
    return data.read_table(source, test_fraction=0.0, **arguments)


def text(content, encoding="utf-8", name="t.csv"):
    """Return a function that writes a text file."""

    def build(folder):
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return build


def frame(*arguments, **columns):
    """Return a function that makes a DataFrame."""
    return lambda folder: pandas.DataFrame(*arguments or (columns,))


MIXED = "name{0}x{0}y\nUli{0}1{1}5{0}7\nÄnne{0}2{1}25{0}8\nUli{0}{0}\n"
MIXED_VALUES = {"name": ["Uli", "Änne", "Uli"], "x": [1.5, 2.25, None], "y": [7, 8, None]}
PAIRS = [(0.5, 0.25), (1.5, 2.25), (-3.5, 1000.125)]
PAIR_VALUES = {"a": [0.5, 1.5, -3.5], "b": [0.25, 2.25, 1000.125]}
FIVE = [1.5, 2.5, -3.5, 4.5, 6.5]
SURVEY = [0, 1, 2, 3, 4] * 6


def gzipped(folder):
    path = folder / "t.CSV.gz"
    path.write_bytes(gzip.compress(b"a,b\n1.5,-2\n2.5,3\n"))
    return path


def cut_gzip(folder):
    path = folder / "t.csv.gz"
    path.write_bytes(gzip.compress(bytes(RANDOM.integers(48, 57, 10_000).tolist()))[:-2000])
    return path


def late_cut_gzip(folder):
    """Return a compressed file whose beginning can be read."""
    path = folder / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 100_000 + RANDOM.bytes(5000))[:-2000])
    return path


def own_index(folder):
    pandas.DataFrame({"a": FIVE}, index=[3, 7, 8, 11, 20]).to_csv(folder / "t.csv")
    return folder / "t.csv"


def excel(folder):
    pandas.DataFrame({"a": FIVE, "s": list("xyxyy")}).to_excel(folder / "t.XLSX", index=False)
    return folder / "t.XLSX"


def two_sheets(folder):
    with pandas.ExcelWriter(folder / "t.xlsx") as writer:
        for name in ("one", "two"):
            pandas.DataFrame({"a": FIVE}).to_excel(writer, sheet_name=name)
    return folder / "t.xlsx"


def parquet(folder):
    values = {"a": FIVE, "s": pandas.Categorical(list("xyxyy")), "n": [1, None, 3, -4, 5]}
    result = pandas.DataFrame(values)
    result["n"] = result["n"].astype("Int64")
    result.to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


def sheet(folder, values):
    pandas.DataFrame(values).to_excel(folder / "t.xlsx", index=False)
    return folder / "t.xlsx"


def parquet_of(folder, values):
    pandas.DataFrame(values).to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


def many_columns(number):
    return {f"c{index}": RANDOM.normal(size=5) for index in range(number)}


LONG = "x" * 5000
WIDE = {f"c{index}": RANDOM.normal(size=5).round(3).tolist() for index in range(2000)}

# name, builder, arguments of read_table, expected values by name
READ = [
    ("utf-8", text(MIXED.format(",", ".")), {}, MIXED_VALUES),
    ("utf-8 with BOM", text(MIXED.format(",", "."), "utf-8-sig"), {}, MIXED_VALUES),
    ("utf-16", text(MIXED.format("\t", "."), "utf-16"), {}, MIXED_VALUES),
    ("utf-16 without BOM", text(MIXED.format(",", "."), "utf-16-le"), {}, MIXED_VALUES),
    ("utf-16-be without BOM", text(MIXED.format(",", "."), "utf-16-be"), {}, MIXED_VALUES),
    ("utf-32", text(MIXED.format(",", "."), "utf-32"), {}, MIXED_VALUES),
    ("latin-1", text(MIXED.format(";", ","), "latin-1"), {"encoding": "latin-1"}, MIXED_VALUES),
    ("semicolons", text(MIXED.format(";", ".")), {}, MIXED_VALUES),
    ("tabs", text(MIXED.format("\t", "."), name="t.TSV"), {}, MIXED_VALUES),
    ("pipes", text(MIXED.format("|", "."), name="t.txt"), {}, MIXED_VALUES),
    ("decimal commas", text(MIXED.format(";", ",")), {}, MIXED_VALUES),
    ("Windows lines", text(MIXED.format(",", ".").replace("\n", "\r\n")), {}, MIXED_VALUES),
    ("old Mac lines", text(MIXED.format(",", ".").replace("\n", "\r")), {}, MIXED_VALUES),
    ("no last line end", text(MIXED.format(",", ".").removesuffix("\n")), {}, MIXED_VALUES),
    ("blank lines", text("\n" + MIXED.format(",", ".").replace("\n", "\n\n")), {}, MIXED_VALUES),
    ("sep= line", text("sep=;\n" + MIXED.format(";", ".")), {}, MIXED_VALUES),
    ("comments", text("# made by x\n# y\n" + MIXED.format(",", ".")), {}, MIXED_VALUES),
    ("gzip", gzipped, {}, {"a": [1.5, 2.5], "b": [-2, 3]}),
    ("header of savetxt", text("# a b\n0.5 0.25\n1.5 2.25\n-3.5 1000.125\n"), {}, PAIR_VALUES),
    (
        "header of a comment without a space",
        text("#a b\n0.5 0.25\n1.5 2.25\n-3.5 1000.125\n"),
        {},
        PAIR_VALUES,
    ),
    (
        "header of a comment above a missing entry",
        text("# a,b\n,0.25\n1.5,2.25\n-3.5,1000.125\n"),
        {},
        {**PAIR_VALUES, "a": [None, 1.5, -3.5]},
    ),
    (
        "a comment above the names",
        text("# x,y\na,b\n0.5,0.25\n1.5,2.25\n-3.5,1000.125\n"),
        {},
        PAIR_VALUES,
    ),
    (
        "an error of a spreadsheet in the first entry",
        text("#N/A,1\n2.5,3\n-1.5,4\n"),
        {},
        {"column_0": [None, 2.5, -1.5], "column_1": [1, 3, 4]},
    ),
    (
        "no header",
        text("0.5,0.25\n1.5,2.25\n-3.5,1000.125\n"),
        {},
        {"column_0": PAIR_VALUES["a"], "column_1": PAIR_VALUES["b"]},
    ),
    (
        "no header, decimal commas",
        text("0,5;0,25\n1,5;2,25\n-3,5;1000,125\n"),
        {},
        {"column_0": PAIR_VALUES["a"], "column_1": PAIR_VALUES["b"]},
    ),
    ("quotes", text('"a","b"\n"0.5","0.25"\n"1.5","2.25"\n"-3.5","1000.125"\n'), {}, PAIR_VALUES),
    (
        "quoted decimal commas",
        text('"a","b"\n"0,5","0,25"\n"1,5","2,25"\n"-3,5","1000,125"\n'),
        {},
        PAIR_VALUES,
    ),
    (
        "quoted separators and line ends",
        text('a,s\n1.5,"x, y"\n2.5,"u\nv"\n-3.5,"say ""hi"""\n4.5,"x, y"\n'),
        {},
        {"a": [1.5, 2.5, -3.5, 4.5], "s": ["x, y", "u\nv", 'say "hi"', "x, y"]},
    ),
    (
        "spaces after separators",
        text('a, s, t\n1.5, "x", p\n2.5, "y, z", q\n-3.5, "x", q\n'),
        {},
        {"a": [1.5, 2.5, -3.5], "s": ["x", "y, z", "x"], "t": list("pqq")},
    ),
    (
        "thousands with points and decimal commas",
        text("a;b\n1.234,5;2.345\n12.345.678,25;1.001\n-0,5;999\n"),
        {},
        {"a": [1234.5, 12345678.25, -0.5], "b": [2345, 1001, 999]},
    ),
    (
        "thousands with commas and decimal points",
        text('a,b\n"1,234.5","2,345"\n"12,345,678.25","1,001"\n-0.5,999\n'),
        {},
        {"a": [1234.5, 12345678.25, -0.5], "b": [2345, 1001, 999]},
    ),
    (
        "thousands with spaces and apostrophes",
        text("a;b\n1 234,5;2'345\n12\u202f345,25;1'001\n-0,5;-999\n"),
        {},
        {"a": [1234.5, 12345.25, -0.5], "b": [2345, 1001, -999]},
    ),
    (
        "thousands, with decimal=",
        text('a,b\n"1,234",1.5\n"12,345",2.5\n"-1,001",-1.5\n'),
        {"decimal": "."},
        {"a": [1234, 12345, -1001], "b": [1.5, 2.5, -1.5]},
    ),
    (
        "decimal comma with three places, with decimal=",
        text("a;b\n1,234;1\n2,345;-2\n"),
        {"decimal": ","},
        {"a": [1.234, 2.345], "b": [1, -2]},
    ),
    (
        "decimal commas after many whole numbers",
        text("a;s\n" + "".join(f"{i}0;{'xy'[i % 2]}\n" for i in range(1, 400)) + "-0,5;x\n"),
        {},
        {
            "a": [10.0 * i for i in range(1, 400)] + [-0.5],
            "s": ["xy"[i % 2] for i in range(1, 400)] + ["x"],
        },
    ),
    (
        "one column of decimal commas, with separator=",
        text("a\n1,5\n2,7\n-3,5\n"),
        {"separator": ";"},
        {"a": [1.5, 2.7, -3.5]},
    ),
    (
        "index of to_csv",
        own_index,
        {},
        {"a": FIVE},
    ),
    (
        "row names of R",
        text('"a" "b"\n"r1" 0.5 0.25\n"r2" 1.5 2.25\n"r3" -3.5 1000.125\n'.replace(" ", ",")),
        {},
        PAIR_VALUES,
    ),
    (
        "row numbers of R",
        text('"a","b"\n"1",0.5,0.25\n"2",1.5,2.25\n"3",-3.5,1000.125\n'),
        {},
        PAIR_VALUES,
    ),
    (
        "row names of R between semicolons",
        text("a;b\nr1;0.5;0.25\nr2;1.5;2.25\nr3;-3.5;1000.125\n"),
        {},
        PAIR_VALUES,
    ),
    (
        "two words in each entry",
        text("full name\nAnn Lee\nBob Ray\nAnn Lee\n"),
        {},
        {"full name": ["Ann Lee", "Bob Ray", "Ann Lee"]},
    ),
    (
        "a text that is longer than the sample",
        text(f'a,s\n1.5,"{LONG * 40}"\n2.5,"y"\n-3.5,"y"\n'),
        {},
        {"a": [1.5, 2.5, -3.5], "s": [LONG * 40, "y", "y"]},
    ),
    (
        "separators at the ends of lines",
        text("a,b\n0.5,0.25,\n1.5,2.25,\n-3.5,1000.125,\n"),
        {},
        {**PAIR_VALUES, "Unnamed: 2": [None] * 3},
    ),
    (
        "names with spaces, unicode, underscores",
        text(f" a b ,größe_µm,_x,2x,{LONG}\n1,2,3,4,5\n-1,-2,-3,-4,-5\n-2,-9,3,1,0\n"),
        {},
        {
            "a b": [1, -1, -2],
            "größe_µm": [2, -2, -9],
            "_x": [3, -3, 3],
            "2x": [4, -4, 1],
            LONG: [5, -5, 0],
        },
    ),
    (
        "a name that is empty",
        text("a,,b\n1.5,2.5,x\n-1.5,-2.5,y\n"),
        {},
        {"a": [1.5, -1.5], "Unnamed: 1": [2.5, -2.5], "b": ["x", "y"]},
    ),
    (
        "numbers as names",
        text("1,2\n1.5,2.5\n-1.5,-2.5\n"),
        {"header": True},
        {"1": [1.5, -1.5], "2": [2.5, -2.5]},
    ),
    (
        "numbers of columns as names",
        text("0,1,2\n0.5,x,7\n1.5,y,8\n-2.5,x,9\n"),
        {},
        {"0": [0.5, 1.5, -2.5], "1": ["x", "y", "x"], "2": [7, 8, 9]},
    ),
    (
        "numbers of columns as names, counted from 1, beside the labels of the rows",
        text(",1,2,3\na,0.5,-1,7\nb,1.5,2,8\nc,-2.5,3,7\n"),
        {},
        {"1": [0.5, 1.5, -2.5], "2": [-1, 2, 3], "3": [7, 8, 7]},
    ),
    (
        "numbers of eight columns of whole numbers as names",
        text("0,1,2,3,4,5,6,7\n0,9,5,8,7,2,3,6\n1,8,6,9,3,4,0,3\n"),
        {},
        dict(
            zip(
                "01234567",
                ([0, 1], [9, 8], [5, 6], [8, 9], [7, 3], [2, 4], [3, 0], [6, 3]),
                strict=True,
            )
        ),
    ),
    (
        "consecutive numbers in each row",
        text("0,1,2\n3,4,5\n7,8,9\n"),
        {},
        {"column_0": [0, 3, 7], "column_1": [1, 4, 8], "column_2": [2, 5, 9]},
    ),
    (
        "equally spaced numbers in the first of three columns",
        text("2,4,6\n7,1,3\n5,9,0\n"),
        {},
        {"column_0": [2, 7, 5], "column_1": [4, 1, 9], "column_2": [6, 3, 0]},
    ),
    (
        "increasing numbers that are not equally spaced",
        text("1,2,4,8\n3,5,6,7\n9,8,2,0\n"),
        {},
        {
            "column_0": [1, 3, 9],
            "column_1": [2, 5, 8],
            "column_2": [4, 6, 2],
            "column_3": [8, 7, 0],
        },
    ),
    (
        "equal numbers in the first row",
        text("3,3,3,3\n1,2,5,9\n2,7,1,6\n"),
        {},
        {
            "column_0": [3, 1, 2],
            "column_1": [3, 2, 7],
            "column_2": [3, 5, 1],
            "column_3": [3, 9, 6],
        },
    ),
    (
        "counted numbers, half of which occur again",
        text("0,1,2,3\n0,0.5,2,7.5\n4,1.5,5,0.5\n"),
        {},
        {
            "column_0": [0, 0, 4],
            "column_1": [1, 0.5, 1.5],
            "column_2": [2, 2, 5],
            "column_3": [3, 7.5, 0.5],
        },
    ),
    (
        "ranks, which occur again",
        text("1,2,3\n3,1,2\n2,1,3\n1,3,2\n"),
        {},
        {"column_0": [1, 3, 2, 1], "column_1": [2, 1, 1, 3], "column_2": [3, 2, 3, 2]},
    ),
    (
        "a first row of a number and a missing text",
        text("1,\n2,x\n3,y\n4,x\n"),
        {},
        {"column_0": [1, 2, 3, 4], "column_1": [None, "x", "y", "x"]},
    ),
    (
        "a first row of numbers with a missing entry",
        text("1,NA,3\n2,0.5,5\n3,1.5,-\n4,2.5,7\n"),
        {},
        {
            "column_0": [1, 2, 3, 4],
            "column_1": [None, 0.5, 1.5, 2.5],
            "column_2": [3, 5, None, 7],
        },
    ),
    (
        "a number above a text, which occurs again",
        text("1,5\n2,x\n1,y\n3,5\n"),
        {},
        {"column_0": [1, 2, 1, 3], "column_1": ["5", "x", "y", "5"]},
    ),
    (
        "years as names of columns of numbers",
        text("land,2001,2002\n1,2.5,3.5\n2,1.5,0.5\n3,-1.5,-0.5\n"),
        {},
        {"land": [1, 2, 3], "2001": [2.5, 1.5, -1.5], "2002": [3.5, 0.5, -0.5]},
    ),
    (
        "text without a header, which occurs again",
        text("x,1.5\ny,2.5\nx,-0.5\n"),
        {},
        {"column_0": ["x", "y", "x"], "column_1": [1.5, 2.5, -0.5]},
    ),
    (
        "text without a header, which occurs again in the next line",
        text("x,1.5\nx,2.5\ny,-0.5\n"),
        {},
        {"column_0": ["x", "x", "y"], "column_1": [1.5, 2.5, -0.5]},
    ),
    (
        "words for missing values",
        text("a,s\n1.5,x\n?,y\nNA,?\n-,-\n#DIV/0!,N/A\nnull,NULL\n ? , ? \n-2.5,.\n,\n"),
        {},
        {
            "a": [1.5, None, None, None, None, None, None, -2.5, None],
            "s": ["x", "y", *[None] * 7],
        },
    ),
    (
        "own words for missing values",
        text("a,s\n1.5,NA\n-999,x\nunknown,unknown\n-2.5,NA\n3.5,\n"),
        {"missing": ["unknown", -999]},
        {"a": [1.5, None, None, -2.5, 3.5], "s": ["NA", "x", None, "NA", None]},
    ),
    (
        "own words for missing values between quotes",
        text('a,s\n1.5,"NA"\n-999,"x"\n-2.5,"NA"\n'),
        {"missing": [-999]},
        {"a": [1.5, None, -2.5], "s": ["NA", "x", "NA"]},
    ),
    (
        "a column without entries",
        text("a,b\n1.5,\n-2.5,\n"),
        {},
        {"a": [1.5, -2.5], "b": [None] * 2},
    ),
    (
        "a constant column",
        text("a,b,c\n1.5,7,x\n-2.5,7,x\n"),
        {},
        {"a": [1.5, -2.5], "b": [7, 7], "c": ["x", "x"]},
    ),
    (
        "booleans",
        text("a,b,c\nTrue,TRUE,yes\nfalse,,no\nTRUE,FALSE,\n"),
        {},
        {"a": [True, False, True], "b": [True, None, False], "c": ["yes", "no", None]},
    ),
    (
        "leading zeros",
        text("zip,n\n01234,1.5\n98765,2.5\n00501,-2.5\n01234,1\n"),
        {},
        {"zip": ["01234", "98765", "00501", "01234"], "n": [1.5, 2.5, -2.5, 1]},
    ),
    (
        "a leading zero after a missing entry",
        text("n,zip\n,01\n1.5,7\n-2.5,98\n"),
        {},
        {"n": [None, 1.5, -2.5], "zip": ["01", "7", "98"]},
    ),
    (
        "leading zeros between semicolons",
        text("n;zip\n1.5;01234\n2.5;98765\n-2.5;00501\n"),
        {},
        {"n": [1.5, 2.5, -2.5], "zip": ["01234", "98765", "00501"]},
    ),
    (
        "hexadecimal codes",
        text("n,code\n1.5,7\n2.5,0xA2\n-2.5,0x1\n"),
        {},
        {"n": [1.5, 2.5, -2.5], "code": ["7", "0xA2", "0x1"]},
    ),
    (
        "negative zero and exponents",
        text("a\n-0.0\n1e3\n-2.5E-1\n"),
        {},
        {"a": [0.0, 1000.0, -0.25]},
    ),
    (
        "quoted numbers with spaces",
        text('a,b\n" 1.5 ",x\n" -2 ",y\n'),
        {},
        {"a": [1.5, -2], "b": ["x", "y"]},
    ),
    (
        "spaces around categories",
        text("s,a\nx ,1.5\n x,2.5\ny,-1.5\n"),
        {},
        {"s": ["x", "x", "y"], "a": [1.5, 2.5, -1.5]},
    ),
    ("survey answers", text("q\n" + "".join(f"{q}\n" for q in SURVEY)), {}, {"q": SURVEY}),
    ("whole numbers beyond int64", text("a\n1e20\n2e20\n-3e20\n"), {}, {"a": [1e20, 2e20, -3e20]}),
    (
        "a decimal point beside a number beyond int64",
        text("a\n99999999999999999999\n1.234\n-2\n"),
        {},
        {"a": [99999999999999999999.0, 1.234, -2]},
    ),
    (
        "several points in a number",
        text("a\n1.234.567\n2.345\n-7\n"),
        {},
        {"a": [1234567, 2345, -7]},
    ),
    ("2,000 columns", lambda folder: pandas.DataFrame(WIDE), {}, WIDE),
    (
        "a decimal point behind the sample shows that a comma separates thousands",
        text("a;b\n" + "10;7\n" * 200 + "0.5;1\n-7;1,234\n"),
        {},
        {"a": [10.0] * 200 + [0.5, -7], "b": [7] * 200 + [1, 1234]},
    ),
    (
        "a number with four decimal places shows that a comma separates thousands",
        text("a;b\n" + "10;7\n" * 200 + "1.2345;1\n-7;1,234\n"),
        {},
        {"a": [10.0] * 200 + [1.2345, -7], "b": [7] * 200 + [1, 1234]},
    ),
    *(
        (
            f"{number} shows that a comma separates thousands",
            text("a;b\n" + "10;7\n" * 200 + f"{number};1\n-7;1,234\n"),
            {},
            {"a": [10.0] * 200 + [float(number), -7], "b": [7] * 200 + [1, 1234]},
        )
        for number in ("1000.5", "1.2340000015")
    ),
    (
        "one number with two decimal places shows that a comma separates thousands",
        text("a;b\n1.25;7\n2;1,234\n-7;1\n"),
        {},
        {"a": [1.25, 2, -7], "b": [7, 1234, 1]},
    ),
    (
        "thousands with points and a decimal comma behind the sample",
        text("a;b\n" + "10;7\n" * 200 + "1.234,5;1\n-7;-1\n"),
        {},
        {"a": [10.0] * 200 + [1234.5, -7], "b": [7] * 200 + [1, -1]},
    ),
    ("Excel", excel, {}, {"a": FIVE, "s": list("xyxyy")}),
    ("Parquet", parquet, {}, {"a": FIVE, "s": list("xyxyy"), "n": [1, None, 3, -4, 5]}),
    (
        "nullable dtypes",
        frame(
            i=pandas.array([1, None, -3], "Int64"),
            b=pandas.array([True, None, False], "boolean"),
            f=pandas.array([0.5, None, -1.5], "Float32"),
            s=pandas.array(["x", None, "y"], "string"),
        ),
        {},
        {
            "i": [1, None, -3],
            "b": [True, None, False],
            "f": [0.5, None, -1.5],
            "s": ["x", None, "y"],
        },
    ),
    (
        "sparse dtype",
        frame(a=pandas.arrays.SparseArray([0.0, 0.0, -1.5]), b=[1.5, 2.5, -0.5]),
        {},
        {"a": [0, 0, -1.5], "b": [1.5, 2.5, -0.5]},
    ),
    (
        "ordered categories",
        frame(
            size=pandas.Categorical(["M", "S", None], ["S", "M", "L"], ordered=True), a=[1.5, 2, -3]
        ),
        {},
        {"size": ["M", "S", None], "a": [1.5, 2, -3]},
    ),
    (
        "Python objects",
        lambda folder: pandas.DataFrame(
            {"a": [1, None, -2.5], "b": [True, False, None], "s": ["x", "", "y"]}, dtype=object
        ),
        {},
        {"a": [1, None, -2.5], "b": [True, False, None], "s": ["x", None, "y"]},
    ),
    (
        "an index with two levels",
        lambda folder: pandas.DataFrame(
            {"a": FIVE}, index=pandas.MultiIndex.from_product([[1], list("vwxyz")])
        ),
        {},
        {"a": FIVE},
    ),
    (
        "names that are numbers",
        lambda folder: pandas.DataFrame([[1.5, -2], [2.5, 3]]),
        {},
        {"0": [1.5, 2.5], "1": [-2, 3]},
    ),
    (
        "own words for missing values of a frame",
        frame(a=[1.5, -999, 2.5], s=["x", "unknown", "y"]),
        {"missing": ["unknown", -999]},
        {"a": [1.5, None, 2.5], "s": ["x", None, "y"]},
    ),
    (
        "a text among the words for missing values is also a number",
        frame(a=[1.5, -9, 2.5]),
        {"missing": ["-9"]},
        {"a": [1.5, None, 2.5]},
    ),
    (
        "chosen kinds",
        text("visits,size,n\n1,M,0\n2,S,1\n2,L,1\n"),
        {"kinds": {"visits": "count", "size": ["S", "M", "L"], "n": "real"}},
        {"visits": [1, 2, 2], "size": ["M", "S", "L"], "n": [0, 1, 1]},
    ),
]


@pytest.mark.parametrize(
    ("build", "arguments", "expected"), [pytest.param(*case, id=name) for name, *case in READ]
)
def test_a_hostile_table_is_read_right(tmp_path, build, arguments, expected):
    table = read(build(tmp_path), **arguments)
    found = table.to_frame(in_order(table))
    assert list(found) == list(expected)
    for name, values in expected.items():
        entries = [None if pandas.isna(value) else value for value in found[name].tolist()]
        if any(isinstance(value, float) for value in values):
            np.testing.assert_allclose(
                np.float64(entries), np.float64(values), rtol=1e-6, err_msg=name
            )
        else:
            assert entries == values, name


REJECTED = [
    ("an empty file", text(""), {}, ["t.csv", "an empty file"]),
    ("blank lines only", text("\n\n \n"), {}, ["t.csv", "an empty file"]),
    ("only a header", text("a,b\n"), {}, ["at least one row", "t.csv", "no rows"]),
    ("one row", text("a,b\n1,x\n"), {}, ["can be modeled", "t.csv", "a (excluded: one value"]),
    ("a folder", lambda folder: folder, {}, ["to be a file", "which is a folder"]),
    ("a missing file", lambda folder: folder / "x.csv", {}, ["x.csv, which does not exist"]),
    ("an unknown suffix", text("a\n1\n", name="t.doc"), {}, [".csv, .tsv", "t.doc", "Rename"]),
    ("no table", lambda folder: 7, {}, ["`source` must be a path", "int"]),
    ("a cut gzip file", cut_gzip, {}, ["t.csv.gz", "undamaged", "Copy"]),
    ("a gzip file that is cut late", late_cut_gzip, {}, ["t.csv.gz", "undamaged", "Copy"]),
    ("no gzip file", text("a\n1\n", name="t.csv.gz"), {}, ["t.csv.gz", "undamaged", ".gz"]),
    (
        "half a character at the end of UTF-16",
        text(("a,b\n" + "1,2\n" * 50_000).encode("utf-16")[:-1]),
        {},
        ["to be in the encoding utf-16", "Pass another `encoding`"],
    ),
    (
        "leading zeros and an open quotation mark",
        text('a,b\n01,x\n2,"y\n3,z\n'),
        {},
        ["t.csv", "closing quotation", "line 3"],
    ),
    (
        "an entry of a sheet",
        lambda folder: sheet(folder, {"a": [1, -2, 3]}),
        {"kinds": {"a": "count"}},
        ["t.xlsx", "-2 in row 3 of the sheet"],
    ),
    (
        "an entry of a Parquet file",
        lambda folder: parquet_of(folder, {"a": [1.5, 2.5, np.inf]}),
        {},
        ["t.parquet", "inf in row 2"],
    ),
    ("repeated names", text("a,b,a\n1,2,3\n"), {}, ["t.csv", "more than once: a", "Rename"]),
    (
        "repeated names of a frame",
        lambda folder: pandas.DataFrame([[1, 2]], columns=["a", "a"]),
        {},
        ["the DataFrame", "more than once: a"],
    ),
    ("a short row", text("a,b\n1,2\n3\n4,5\n"), {}, ["t.csv", "2 fields", "1 fields in line 3"]),
    (
        "a name that is that of an empty name",
        text("a,,Unnamed: 1\n1.5,2,3\n-2.5,4,6\n"),
        {},
        ["t.csv", "more than once: Unnamed: 1"],
    ),
    (
        "text after many different numbers",
        text("a,b\n" + "".join(f"{i}.5,{i % 7}\n" for i in range(3000)) + "x,1\n"),
        {},
        ["t.csv", "Expected numbers", "'a'", "'x' in line 3002"],
    ),
    ("a long row", text("a,b\n1,2\n\n3,4,5\n"), {}, ["t.csv", "3 fields in line 4", "quotation"]),
    ("long and short rows", text("a,b,c\n1,2,3\n1,2\n1,2,3,4\n"), {}, ["2 fields in line 3"]),
    (
        "a long row between spaces",
        text("a b\n" + "".join(f"{i} {i % 7}\n" for i in range(150)) + "1 2 3\n"),
        {},
        ["3 fields in line 152"],
    ),
    (
        "a short row beside a separator in quotes",
        text('a,b\n"x,y",2\n3\n'),
        {},
        ["1 fields in line 3"],
    ),
    ("a short row beside leading zeros", text("a,b\n01,x\n2\n"), {}, ["1 fields in line 3"]),
    ("a wrong separator", text("a,b\n1,2\n"), {"separator": "||"}, ["`separator`", "'||'"]),
    ("an empty separator", text("a,b\n1,2\n"), {"separator": ""}, ["`separator`", "''"]),
    ("a wrong decimal sign", text("a,b\n1,2\n"), {"decimal": "x"}, ["`decimal`", "'x'"]),
    ("a short row with quotes", text('a,b\n"x\ny",2\n3\n'), {}, ["1 fields in line 4"]),
    ("an open quotation mark", text('a,b\n1,x\n2,"y\n3,z\n'), {}, ["t.csv", "closing quotation"]),
    ("text after a quotation mark", text('a,b\n1,x\n"2"y,z\n'), {}, ["line 3", "quotation"]),
    ("a NUL byte", text(b"a,b\n1,2\n3,\x004\n"), {}, ["NUL byte in line 3", "damaged"]),
    ("a web page", text("<!DOCTYPE html>\n<p>a,b</p>\n"), {}, ["a web page", "Download"]),
    (
        "decimal commas or two columns",
        text("a\n1,5\n2,7\n-3,5\n"),
        {},
        ["one name (a)", "1,5", "`separator=';'`"],
    ),
    ("infinity", text("a,b\n1,2\n3,4\ninf,5\n"), {}, ["'a'", "t.csv", "inf in line 4", "Correct"]),
    ("minus infinity", frame(a=[1.0, -np.inf, 3.0]), {}, ["'a'", "-inf in row 1", "DataFrame"]),
    ("overflow of float32", text("a\n1\n1e39\n-1\n"), {}, ["'a'", "1e+39 in line 3", "unit"]),
    (
        "a word among numbers",
        text("a,b\n1,x\n2,y\nthree,z\n4,z\n"),
        {},
        ["'a'", "'three' in line 4", "missing=[...]"],
    ),
    (
        "text late in a column",
        text("a\n" + "1\n2\n" * 500 + "x\n"),
        {},
        ["'a'", "'x' in line 1002"],
    ),
    (
        "units",
        text("w,b\n12 kg,1\n13 kg,2\n14.5 kg,3\n"),
        {},
        ["'w'", "without a unit", "'12 kg' in line 2"],
    ),
    ("percent signs", text("w,b\n12%,1\n13%,2\n14.5%,3\n"), {}, ["'w'", "unit", "'12%' in line 2"]),
    ("currency", text("w,b\n$1.50,1\n$13,2\n$14,3\n"), {}, ["'w'", "unit", "'$1.50' in line 2"]),
    (
        "ambiguous thousands",
        text('a,b\n"1,234",1\n"2,345",2\n'),
        {},
        ["'a'", "'1,234' in line 2", "1234 or 1.234", "`decimal='.'`"],
    ),
    (
        "thousands beside a number whose point may separate thousands",
        text("a;b\n" + "10;7\n" * 200 + "1.25;1\n-7;1,234\n"),
        {},
        ["'b'", "clear decimal sign", "'1,234' in line 203"],
    ),
    (
        "both decimal signs",
        text("a;b\n1,5;1.5\n2,5;-2.5\n-7,25;1.25\n"),
        {},
        ["'a'", "the same decimal sign", "in line"],
    ),
    (
        "names or values",
        text("bob,1,2\nann,3,4\ncy,5,6\n"),
        {},
        ["either names or values", "`header=False`"],
    ),
    *(
        (
            f"numbers as names or values: {name}",
            text(content),
            {},
            ["names or values", "`header=True`", "`header=False`", content[:1]],
        )
        for name, content in {
            "wavelengths": "400,402.5,405,407.5\n0.5,0.25,7,1\n1.5,2.25,8,1\n",
            "years": "2001,2002,2003,2004\n5,7,2,4\n1,9,3,8\n",
            "few whole numbers": "0,1,2\n5,7,6\n2,9,9\n",
            "numbers above texts": "1,5\n0.5,x\n1.5,y\n",
        }.items()
    ),
    ("two header lines", text("a,b\ncm,kg\n1,2\n3,4\n"), {}, ["'a'", "'cm' in line 2"]),
    (
        "wrong encoding",
        text("a,s\n1,ä\n", "latin-1"),
        {"encoding": "utf-8"},
        ["utf-8", "`encoding`"],
    ),
    ("an unknown encoding", text("a\n1\n"), {"encoding": "utf-9"}, ["`encoding`", "'utf-9'"]),
    (
        "UTF-8 that is damaged",
        text(b"a,s\n1,\xc3\xa4\n" * 1 + b"2,x\n" * 90_000 + b"3,\xe4\n"),
        {},
        ["UTF-8", "`encoding`"],
    ),
    (
        "timestamps",
        text("t\n" + "".join(f"17{i:011d}\n" for i in range(50, 90))),
        {},
        ["'t'", "float32", "Subtract"],
    ),
    (
        "only dates",
        text("d\n2020-01-02\n2021-01-03\n2021-01-04\n"),
        {},
        ["can be modeled", "dates and times"],
    ),
    (
        "complex numbers",
        frame(a=[1j, 2.0]),
        {},
        ["'a'", "real numbers", "1j in row 0", "imaginary"],
    ),
    ("lists", frame(a=[[1], [2, 3]]), {}, ["'a'", "[1] in row 0", "one column for each"]),
    ("dictionaries", frame(a=[1, {"b": 2}]), {}, ["'a'", "{'b': 2} in row 1"]),
    ("bytes", frame(a=[b"x", b"y"]), {}, ["'a'", "type bytes", "row 0"]),
    ("numbers and text", frame(a=[1, "x"]), {}, ["'a'", "one type", "int, str"]),
    ("an empty Parquet file", text("", name="t.parquet"), {}, ["t.parquet", "an empty file"]),
    (
        "test rows without the label",
        frame(a=[1.5, 2.5], y=["u", "v"]),
        {"label": "y", "test": pandas.DataFrame({"a": [3.5]})},
        ["the DataFrame to have the column 'y'", "Received the columns: a", "Add the column"],
    ),
    ("a fraction that is text", text("a\n1\n"), {"test_fraction": "x"}, ["`test_fraction`", "'x'"]),
    ("mixed types", frame(a=[1, "x", True]), {}, ["'a'", "one type", "bool, int, str", "row 0"]),
    (
        "two levels of names",
        lambda folder: pandas.DataFrame([[1, 2]], columns=[["a", "a"], ["b", "c"]]),
        {},
        ["2 levels", "Join"],
    ),
    (
        "no columns",
        lambda folder: pandas.DataFrame(index=range(3)),
        {},
        ["can be modeled", "no columns"],
    ),
    ("no rows", lambda folder: pandas.DataFrame({"a": []}), {}, ["at least one row", "DataFrame"]),
    ("two sheets", two_sheets, {}, ["one sheet", "one, two", "sheet_name"]),
    ("no Excel file", text("a\n1\n", name="t.xlsx"), {}, ["t.xlsx", "workbook", "CSV"]),
    ("no Parquet file", text("a\n1\n", name="t.parquet"), {}, ["t.parquet", "Parquet file"]),
    (
        "a million categories",
        lambda folder: pandas.DataFrame({"s": [f"n{i}" for i in range(1_000_000)]}),
        {},
        ["can be modeled", "1000000 different values", "kinds="],
    ),
    (
        "a name that kinds misspells",
        text("visits,a\n1,2\n"),
        {"kinds": {"visit": "count"}},
        ["`kinds`", "'visit'", "Did you mean 'visits'?"],
    ),
    (
        "an unknown kind",
        text("a\n1\n"),
        {"kinds": {"a": "number"}},
        ["kinds['a']", "'number'", "real, positive"],
    ),
    (
        "a count that is negative",
        text("a\n1\n-2\n"),
        {"kinds": {"a": "count"}},
        ["'a'", "-2 in line 3", "at least 0"],
    ),
    (
        "a count with a fraction",
        text("a\n1\n2.5\n"),
        {"kinds": {"a": "count"}},
        ["'a'", "2.5 in line 3"],
    ),
    (
        "a positive number that is 0",
        text("a\n1\n0\n"),
        {"kinds": {"a": "positive"}},
        ["'a'", "0 in line 3"],
    ),
    (
        "a binary column with 3 values",
        text("a\nx\ny\nz\n"),
        {"kinds": {"a": "binary"}},
        ["'a'", "2 different values", "3 values"],
    ),
    (
        "text that shall be a number",
        text("a\n1\ntwo\n"),
        {"kinds": {"a": "real"}},
        ["'a'", "'two' in line 3"],
    ),
    (
        "an order without a value",
        text("a\nS\nM\nXL\n"),
        {"kinds": {"a": ["S", "M"]}},
        ["'a'", "Missing: ['XL']"],
    ),
    (
        "text without an order",
        text("a\nS\nM\nXL\n"),
        {"kinds": {"a": "ordinal"}},
        ["'a'", "from the lowest"],
    ),
    (
        "an order with one category",
        text("a\nS\nM\n"),
        {"kinds": {"a": ["S"]}},
        ["`kinds['a']`", "at least two different categories", "['S']"],
    ),
    (
        "an order with a category twice",
        text("a\nS\nM\n"),
        {"kinds": {"a": ["S", "M", "S"]}},
        ["`kinds['a']`", "at least two different categories", "['S', 'M', 'S']"],
    ),
    (
        "a constant with several values",
        text("a\nS\nM\n"),
        {"kinds": {"a": "constant"}},
        ["one value in the column 'a'", "several values"],
    ),
    (
        "a kind for the label",
        text("a,b\n1,2\n"),
        {"label": "b", "kinds": {"b": "category"}},
        ["`kinds` to describe features", "'b', which is the label"],
    ),
    (
        "dates that shall be numbers",
        frame(a=pandas.date_range("2020-01-01", periods=3)),
        {"kinds": {"a": "real"}},
        ["'a'", "dates or times", "row 0", "days since the first date"],
    ),
    (
        "intervals of pandas",
        frame(a=pandas.arrays.IntervalArray.from_breaks([0, 1, 2])),
        {},
        ["'a'", "numbers, text, booleans or categories", "the dtype interval", "row 0"],
    ),
    ("a wrong label", text("a,b\n1,2\n"), {"label": "c"}, ["`label`", "a, b", "'c'"]),
    (
        "a missing label",
        text("a,b\n1,x\n2,\n3,y\n"),
        {"label": "b"},
        ["'b'", "missing entry in line 3"],
    ),
    ("a wrong fraction", text("a\n1\n"), {"test_fraction": 1.0}, ["`test_fraction`", "1.0"]),
]


@pytest.mark.parametrize(
    ("build", "arguments", "words"), [pytest.param(*case, id=name) for name, *case in REJECTED]
)
def test_a_hostile_table_is_rejected_with_its_place_and_a_remedy(tmp_path, build, arguments, words):
    with pytest.raises(ValueError, match=r"Expected|must") as raised:
        data.read_table(build(tmp_path), **{"test_fraction": 0.0, **arguments})
    for word in words:
        assert word in str(raised.value)


@pytest.mark.filterwarnings("ignore")
def test_long_and_short_rows_are_rejected_even_if_warnings_are_ignored(tmp_path):
    path = text("a,b,c\n1,2,3\n1,2\n1,2,3,4\n")(tmp_path)
    with pytest.raises(ValueError, match="2 fields in line 3"):
        read(path)


@pytest.mark.parametrize("separator", [",", ";", "|"])
@pytest.mark.parametrize("code", ["01", "0X1", "0x1"])
def test_a_leading_zero_is_found_wherever_it_is(tmp_path, monkeypatch, separator, code):
    monkeypatch.setattr(_csv, "_CACHED", 4)
    rows = [["2.5", "7"]] * 3
    for row in range(3):
        for number in ("2", "-1.5", "2.25"):
            changed = [[number, code] if index == row else one for index, one in enumerate(rows)]
            lines = [["n", "zip"], *changed, ["3", "8"]]
            path = text("".join(f"{separator.join(line)}\n" for line in lines))(tmp_path)
            column = read(path, separator=separator, kinds={"zip": "category"}).columns[1]
            assert column.categories == tuple(sorted((code, "7", "8")))


def test_a_header_longer_than_the_sample_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(_csv, "_SAMPLE", 50)
    names = [f"name number {index}" for index in range(20)]
    source = pandas.DataFrame(RANDOM.normal(size=(30, 20)).round(2), columns=names)
    source.to_csv(tmp_path / "t.csv", index=False)
    table = read(tmp_path / "t.csv")
    np.testing.assert_array_equal(in_order(table), source.to_numpy(np.float32))
    assert [column.name for column in table.columns] == names


def test_quoted_line_breaks_at_the_start_of_a_row_do_not_end_a_block(tmp_path, monkeypatch):
    source = pandas.DataFrame({"s": ["ü\nv", "w"] * 6, "a": np.arange(12) / 7})
    source.to_csv(tmp_path / "t.csv", index=False, quoting=1)
    for size in (20, 33):
        monkeypatch.setattr(tables, "_BLOCK_SIZE", size)
        table = read(tmp_path / "t.csv", in_memory=False)
        assert table.columns[0].categories == ("w", "ü\nv")
        rows = np.concatenate(list(table.train.as_numpy_iterator()))
        np.testing.assert_allclose(np.sort(rows[:, 1]), source["a"], rtol=1e-6)


def test_the_line_of_a_nul_byte_in_a_later_block(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_BLOCK_SIZE", 100)
    monkeypatch.setattr(_csv, "_SAMPLE", 100)
    path = text("a,b\n" + "1,2\n3,4\n" * 100 + "5,\0\n")(tmp_path)
    with pytest.raises(ValueError, match="NUL byte in line 202"):
        read(path, in_memory=False)


def test_numbers_that_only_test_rows_have_are_too_few():
    values = np.full(40, NAN)
    values[np.random.default_rng(0).permutation(40)[:2]] = 1.5, 2.5  # test rows
    frame = pandas.DataFrame({"a": values, "b": np.arange(40) / 7})
    with pytest.raises(ValueError, match=r"numbers in the training rows .* 'a' .*only missing"):
        data.read_table(frame, kinds={"a": "real"})


def test_moments_of_blocks_are_those_of_all_numbers():
    numbers = np.random.default_rng(0).lognormal(size=60)
    moments = _kinds._Moments()
    for start, end in ((0, 7), (7, 7), (7, 8), (8, 60)):
        moments.add(numbers[start:end])
    assert moments.count == 60
    assert moments.mean == pytest.approx(numbers.mean(), rel=1e-12)
    assert moments.scale == pytest.approx(numbers.std(), rel=1e-12)
    assert moments.skewness == pytest.approx(scipy.stats.skew(numbers), rel=1e-9)


def test_a_value_that_only_test_rows_have_does_not_make_a_constant_vary():
    values = np.full(40, "x", object)
    values[np.random.default_rng(0).permutation(40)[0]] = "y"  # a test row
    frame = pandas.DataFrame({"a": values, "b": np.arange(40) / 7})
    column = data.read_table(frame).columns[0]
    assert (column.kind, column.categories) == ("constant", ("x",))


def test_a_character_across_the_end_of_the_sample_is_read(tmp_path):
    start = b"s,a\n"
    content = start + b"x,1\n" * ((2**16 - len(start)) // 4 - 1) + b"yyy\xc3\xa4,2.5\n"
    assert content[: 2**16].endswith(b"\xc3")
    table = read(text(content)(tmp_path))
    assert table.columns[0].categories == ("x", "yyyä")


def test_columns_without_a_header_get_the_names_of_the_table(tmp_path):
    table = read(pandas.DataFrame({"a": FIVE, "s": list("xyxyy")}))
    rows = text("0.5,y\n-3,x\n4,y\n")(tmp_path)
    np.testing.assert_array_equal(table.read_rows(rows), [[0.5, 1], [-3, 0], [4, 1]])
    short = text("0.5\n-3\n", name="short.csv")(tmp_path)
    with pytest.raises(ValueError, match=r"Expected 2 columns .*: a, s\. Received: 1 columns"):
        table.read_rows(short)


def test_packages_that_read_a_file_are_named(tmp_path, monkeypatch):
    paths = [parquet(tmp_path), excel(tmp_path)]
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    def fail(*_, **__):
        raise ImportError("no openpyxl")

    monkeypatch.setattr(pandas, "read_excel", fail)
    for path, extra in zip(paths, ("parquet", "excel"), strict=True):
        with pytest.raises(ValueError, match=rf"Install it: `pip install 'keras_gen\[{extra}\]'`"):
            read(path)
    monkeypatch.setitem(sys.modules, "pyarrow.csv", None)
    table = read(text("a;b\n1.5;x\n-2.5;y\n")(tmp_path))
    assert table.train.shape == (2, 2)  # pandas reads the file


def test_a_frame_is_expected():
    with pytest.raises(ValueError, match=r"to be a pandas\.DataFrame\. Received: dict"):
        encode_frame([Column("a", "real")], {"a": [1.0]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "number"}, "`kind` of the column 'x' must be one of real, .*kind='number'"),
        ({"kind": "real", "scale": 0.0}, "`scale` of the column 'x' must be greater than 0"),
    ],
)
def test_arguments_of_a_column_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Column("x", **arguments)


def test_a_question_mark_among_categories_is_noted():
    column = read(text_frame(["?", "x", "y"] * 4), missing=["unknown"]).columns[0]
    noted = "'?' is a category; if it stands for a missing value, pass missing=['?']"
    assert column.note == noted
    column = read(text_frame(["x", "X", "y"] * 4)).columns[0]
    assert column.note == "'X' and 'x' differ only in case"


def text_frame(values):
    return pandas.DataFrame({"s": values, "a": np.arange(len(values)) / 7})


@pytest.mark.parametrize(
    ("dtype", "categories", "expected"),
    [
        ("string", ("x", "y"), "string"),
        ("object", ("x", "y"), "object"),
        ("str", ("x", "y"), "str"),
        ("float64", ("x", "y"), "str"),
        ("bool", (False, True), "boolean"),
        ("boolean", (False, True), "boolean"),
        ("float64", (False, True), "boolean"),
        ("int64", (1, 5), "Int64"),
        ("category", ("x", "y"), "category"),
    ],
)
def test_categories_get_the_dtype_of_their_column(dtype, categories, expected):
    column = Column("c", "category", categories, dtype=dtype)
    found = decode_array([column], np.array([[1.0], [NAN], [0.0]]))["c"]
    assert str(found.dtype) == expected
    assert found[0] == categories[1]
    assert pandas.isna(found[1])


def test_generated_fractions_of_a_column_of_integers_stay_fractions():
    column = Column("n", "real", dtype="int64")
    for entries, dtype in (([1.5, 2.0], "float64"), ([1.5, NAN], "Float64"), ([1, NAN], "Int64")):
        found = decode_array([column], np.array(entries)[:, None])["n"]
        assert str(found.dtype) == dtype
        assert [None if pandas.isna(v) else v for v in found] == [
            None if np.isnan(v) else v for v in entries
        ]


@pytest.mark.parametrize("function", [data.load, data.read_table])
def test_a_warning_about_a_file_names_the_line_of_the_user(tmp_path, function):
    path = text(b"s,a\n" + b"x,1.5\ny,-2.5\n" * 10 + "ä,3\n".encode("cp1252"))(tmp_path)
    with pytest.warns(UserWarning, match="Windows-1252") as found:
        function(path)
    assert found[0].filename == __file__
    with pytest.warns(UserWarning, match="Windows-1252") as found:
        exec("function(path)", {"function": function, "path": path})
    assert found[0].filename == "<string>"


def test_a_file_that_is_not_utf_8_is_read_with_a_warning(tmp_path):
    path = text(MIXED.format(",", "."), "cp1252")(tmp_path)
    with pytest.warns(UserWarning, match=r"t\.csv is not in the encoding UTF-8.*1252") as found:
        table = data.read_table(path, test_fraction=0.0)
    assert found[0].filename == __file__
    assert table.columns[0].categories == ("Uli", "Änne")
    late = text(b"s,a\n" + b"x,1.5\ny,-2.5\n" * 30_000 + "ä,3\n".encode("cp1252"))(tmp_path)
    with pytest.warns(UserWarning, match="Windows-1252"):
        assert read(late).columns[0].categories == ("x", "y", "ä")


# === Kinds ===

WHOLE = np.arange(60)
KINDS = {
    "real": RANDOM.normal(size=60),
    "uniform": RANDOM.random(60),  # its logarithm is skewed
    "positive": RANDOM.lognormal(3, 1, size=60),
    "negative whole": WHOLE - 30,
    "count": RANDOM.negative_binomial(1, 0.1, size=60),
    "year": 1950 + RANDOM.permutation(60),
    "temperature": np.clip(RANDOM.normal(50, 4, size=60).round(), 1, None),  # variance < mean
    "survey": WHOLE % 5,
    "zero and one": WHOLE % 2,
    "one and two": 1 + WHOLE % 2,
    "boolean": WHOLE % 2 == 0,
    "text": [f"t{i % 4}" for i in WHOLE],
    "names": [f"n{i}" for i in WHOLE],
    "ID": 7 * RANDOM.permutation(60),
    "userId": 7 * RANDOM.permutation(60),
    "order_id": 7 * RANDOM.permutation(60),
    "paid": RANDOM.negative_binomial(1, 0.1, size=60),
    "row numbers": WHOLE + 1,
    "constant": np.full(60, 2.5),
    "missing": np.full(60, NAN),
    "date": pandas.date_range("2020-01-01", periods=60),
    "date with zone": pandas.date_range("2020-01-01", periods=60, tz="UTC"),
    "duration": pandas.to_timedelta(WHOLE, unit="h"),
    "period": pandas.period_range("2020-01", periods=60, freq="M"),
    "date as text": [f"2020-01-{1 + i % 28:02d}" for i in WHOLE],
    "time as text": [f"{i % 24:02d}:{i % 60:02d}" for i in WHOLE],
    "bins": pandas.cut(WHOLE, 3),
    "ordered": pandas.Categorical([f"t{i % 4}" for i in WHOLE], ["t3", "t2", "t0", "t1"], True),
    "coded": pandas.Categorical(WHOLE % 3),
}
EXPECTED_KINDS = {
    "real": "real",
    "uniform": "real",
    "positive": "positive",
    "negative whole": "real",
    "count": "count",
    "year": "positive",
    "temperature": "positive",
    "survey": "category",
    "zero and one": "binary",
    "one and two": "binary",
    "boolean": "binary",
    "text": "category",
    "names": "identifier",
    "ID": "identifier",
    "userId": "identifier",
    "order_id": "identifier",
    "paid": "count",
    "row numbers": "identifier",
    "constant": "constant",
    "missing": "constant",
    "date": "identifier",
    "date with zone": "identifier",
    "duration": "identifier",
    "period": "identifier",
    "date as text": "identifier",
    "time as text": "identifier",
    "bins": "ordinal",
    "ordered": "ordinal",
    "coded": "category",
}


def test_kinds_are_inferred_and_printed():
    table = data.read_table(pandas.DataFrame(KINDS))
    columns = {column.name: column for column in table.columns}
    assert {name: column.kind for name, column in columns.items()} == EXPECTED_KINDS
    assert columns["survey"].categories == (0, 1, 2, 3, 4)
    assert columns["boolean"].categories == (False, True)
    assert columns["ordered"].categories == ("t3", "t2", "t0", "t1")
    assert columns["missing"].missing == 60
    lines = str(table.columns).splitlines()
    assert len(lines) == 1 + len(KINDS)
    for line, (name, kind) in zip(lines[1:], EXPECTED_KINDS.items(), strict=True):
        assert re.match(rf"{re.escape(name)} +{kind} ", line)
    assert "excluded: dates and times" in lines[1 + list(KINDS).index("date")]
    assert str(table).startswith("Table of the DataFrame: 54 training rows and 6 test rows, ")


def test_statistics_come_from_the_training_rows():
    values = RANDOM.lognormal(size=(200, 2))
    values[::7, 0] = NAN
    source = pandas.DataFrame(values, columns=["a", "b"])
    source["a"] -= 5
    table = data.read_table(source, test_fraction=0.25, seed=3)
    assert (table.train.shape, table.test.shape) == ((150, 2), (50, 2))
    assert table.train.dtype == np.float32
    together = np.concatenate([table.test, table.train])
    order = np.random.default_rng(3).permutation(200)
    np.testing.assert_array_equal(together, source.to_numpy(np.float32)[order])
    train = source.iloc[order[50:]]
    a, b = table.columns
    assert (a.kind, b.kind, a.missing) == ("real", "positive", 29)
    for column, numbers in ((a, train["a"]), (b, np.log(train["b"]))):
        np.testing.assert_allclose(column.mean, np.nanmean(numbers), rtol=1e-12)
        np.testing.assert_allclose(column.scale, np.nanstd(numbers), rtol=1e-12)
        np.testing.assert_allclose(column.minimum, train[column.name].min())
        np.testing.assert_allclose(column.maximum, train[column.name].max())


def test_categories_that_only_test_rows_have_count_as_missing_with_a_warning(tmp_path):
    train = pandas.DataFrame({"s": list("xyxy"), "a": [1.5, 2, -3, 4]})
    test = pandas.DataFrame({"a": [7, -8.5], "s": ["z", "y"], "other": [1, 2]})
    with pytest.warns(UserWarning, match="1 categories that no training row has: 'z'"):
        table = data.read_table(train, test=test)
    np.testing.assert_array_equal(table.test, [[NAN, 7], [1, -8.5]])
    assert len(table.train) == 4
    source = pandas.DataFrame({"a": np.arange(40.0) - 9, "s": ["x", "y"] * 20})
    rare = np.random.default_rng(0).permutation(40)[0]  # a test row
    source.loc[rare, "s"] = "rare"
    with pytest.warns(UserWarning, match="'rare'"):
        table = data.read_table(source)
    assert table.columns[1].categories == ("x", "y")
    assert np.isnan(table.test[:, 1]).sum() == 1
    test = test.iloc[1:]
    test.to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(ValueError, match=r"Missing: a\..*Received the columns: s"):
        data.read_table(train, test=test[["s"]])
    with pytest.raises(ValueError, match=r"at least 0 .*'a' of .*test\.csv.*-8\.5 in line 2"):
        data.read_table(
            train.assign(a=[1, 2, 2, 4]), kinds={"a": "count"}, test=tmp_path / "test.csv"
        )


def test_labels_leave_the_features():
    source = pandas.DataFrame({"a": FIVE * 4, "y": ["dog", "cat", "cat", "ant", "dog"] * 4})
    table = data.read_table(source, label="y")
    assert [column.name for column in table.columns] == ["a"]
    assert table.class_names == ("ant", "cat", "dog")
    order = np.random.default_rng(0).permutation(20)
    expected = source["y"].map({"ant": 0, "cat": 1, "dog": 2}).to_numpy()[order]
    np.testing.assert_array_equal(table.test_labels, expected[:2])
    np.testing.assert_array_equal(table.labels, expected[2:])
    assert table.labels.dtype == np.int64
    for values, codes, names in (
        ([0, 2, 0, 2, 0], [0, 2, 0, 2, 0], ("0", "1", "2")),
        ([-1, 1, 1, -1, 1], [0, 1, 1, 0, 1], ("-1", "1")),
        ([True, False, True, True, False], [1, 0, 1, 1, 0], ("False", "True")),
    ):
        table = read(pandas.DataFrame({"a": FIVE, "y": values}), label="y")
        np.testing.assert_array_equal(in_order(table, table.labels), codes)
        assert table.class_names == names


# === New rows, and back ===


def test_new_rows_are_encoded_with_the_columns_of_the_table(tmp_path):
    table = data.read_table("penguins", seed=1)
    new = pandas.DataFrame({
        "sex": ["male", None], "species": ["Gentoo", "Adelie"], "island": ["Dream", ""],
        "bill_length_mm": ["40.5", NAN], "bill_depth_mm": [18, 17], "flipper_length_mm": [190, 1],
        "body_mass_g": [4000, 4100], "year": [2008.0, 2009.0], "more": [1, 2],
    })  # fmt: skip
    expected = [[2, 1, 40.5, 18, 190, 4000, 1, 1], [0, NAN, NAN, 17, 1, 4100, NAN, 2]]
    np.testing.assert_array_equal(table.from_frame(new), np.float32(expected))
    new.to_csv(tmp_path / "new.csv", index=False)
    np.testing.assert_array_equal(table.read_rows(tmp_path / "new.csv"), np.float32(expected))
    np.testing.assert_array_equal(
        data.read_rows(tmp_path / "new.csv", table.columns), np.float32(expected)
    )
    new.loc[1, "island"] = "Draem"
    message = (
        r"one of the categories 'Biscoe', 'Dream', 'Torgersen' in the column 'island' of the "
        r"DataFrame\. Received: 'Draem' in row 1 .*unseen='missing'"
    )
    with pytest.raises(ValueError, match=message):
        table.from_frame(new)
    np.testing.assert_array_equal(table.from_frame(new, unseen="missing"), np.float32(expected))
    with pytest.raises(ValueError, match="`unseen` must be"):
        table.from_frame(new, unseen="ignore")
    with pytest.raises(ValueError, match=r"Missing: sex, year\. .*empty entries"):
        table.from_frame(new.drop(columns=["sex", "year"]))
    with pytest.raises(ValueError, match=r"'body_mass_g' .*Received: 'heavy' in row 0"):
        table.from_frame(new.assign(island="Dream", body_mass_g=["heavy", "4"]))
    with pytest.raises(ValueError, match=r"greater than 0 .*'body_mass_g' .*-1 in row 1"):
        table.from_frame(new.assign(island="Dream", body_mass_g=[4, -1]))


def test_a_constant_of_new_rows_must_be_the_constant():
    table = read(pandas.DataFrame({"a": FIVE, "c": ["x"] * 5}))
    new = pandas.DataFrame({"a": [1.0], "c": ["y"]})
    with pytest.raises(ValueError, match="one of the categories 'x' in the column 'c'"):
        table.from_frame(new)
    np.testing.assert_array_equal(table.from_frame(new, unseen="missing"), [[1]])
    np.testing.assert_array_equal(table.from_frame(new[["a"]]), [[1]])


def test_numbers_and_texts_of_categories_match():
    column = Column("q", "category", (0, 1, 2))
    truth = Column("t", "binary", (False, True))
    codes = Column("zip", "category", ("01", "7"))
    new = pandas.DataFrame({"q": ["2", "1.0"], "t": ["true", "0"], "zip": ["01", "7"]})
    array = encode_frame([column, truth, codes], new)
    np.testing.assert_array_equal(array, [[2, 1, 0], [1, 0, 1]])
    new = pandas.DataFrame({"q": [2, 1], "t": [1, 0], "zip": [7, 7.0]})
    array = encode_frame([column, truth, codes], new)
    np.testing.assert_array_equal(array, [[2, 1, 1], [1, 0, 1]])
    with pytest.raises(ValueError, match="'01', '7' in the column 'zip'"):
        encode_frame([codes], pandas.DataFrame({"zip": [1, 7]}))


def test_generated_rows_get_the_dtypes_of_the_table():
    source = pandas.DataFrame({
        "whole": np.int32([5, 6, 7, -8, 9]),
        "small": np.int8([1, 2, 3, -4, 5]),
        "mass": [1.25, 2.5, -3.75, 4.0, 5.0],
        "zero": pandas.array([1, 2, None, -4, 9], "Int64"),
        "yes": [True, False, True, True, False],
        "s": list("xyxyz"),
        "c": pandas.Categorical(list("abaca")),
        "one": [7] * 5,
        "id": [5, 7, 9, 2, 1],
    })  # fmt: skip
    table = read(source)
    array = np.array(
        [[5.4, 127, 1.2549, 1.6, 1, 2, 2], [5.6, 300, -0.001, NAN, NAN, NAN, NAN], [NAN] * 7]
    )
    found = table.to_frame(array)
    assert list(found) == ["whole", "small", "mass", "zero", "yes", "s", "c", "one"]
    assert found.dtypes.astype(str).to_dict() == {
        "whole": "Int64", "small": "Int64", "mass": "float64", "zero": "Int64", "yes": "boolean",
        "s": "str", "c": "category", "one": "int64",
    }  # fmt: skip
    expected = [[5, 127, 1.25, 2, True, "z", "c", 7], [6, 300, 0, None, None, None, None, 7]]
    for row, values in enumerate(expected):
        for value, entry in zip(values, found.iloc[row], strict=True):
            assert entry == value or (value is None and pandas.isna(entry))
    assert found["c"].cat.categories.tolist() == ["a", "b", "c"]
    assert str(found["mass"][1]) == "0.0"
    whole = table.to_frame(np.nan_to_num(array[:1]))
    assert whole.dtypes.astype(str)[["whole", "small", "yes"]].tolist() == ["int32", "int8", "bool"]
    for wrong, message in (
        (np.zeros((2, 3)), r"shape \(rows, 7\).*Received: shape \(2, 3\)"),
        (np.where(array[:1] == 127, np.inf, array[:1]), "finite entries in the column 'small'"),
        (
            array[:1] + np.array([0, 0, 0, 0, 0.5, 0, 0]),
            "codes from 0 to 1 in the column 'yes'.*1.5 in row",
        ),
        (
            array[:1] + np.array([0, 0, 0, 0, 0, 1, 0]),
            "codes from 0 to 2 in the column 's'.*3 in row 0",
        ),
        (
            array[:1] - np.array([0, 0, 0, 0, 0, 3, 0]),
            "codes from 0 to 2 in the column 's'.*-1 in row 0",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            table.to_frame(wrong)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8)


@st.composite
def frames(draw):
    """Return DataFrames whose columns have any dtype that `read_table` models."""
    rows = draw(st.integers(2, 20))

    def column(values, dtype):
        optional = st.lists(values | st.none(), min_size=rows, max_size=rows)
        return pandas.Series(draw(optional), dtype=dtype)

    makers = {
        "float64": lambda: column(st.integers(-9999, 9999).map(lambda i: i / 100), "float64"),
        "Int64": lambda: column(st.integers(-(2**20), 2**20), "Int64"),
        "boolean": lambda: column(st.booleans(), "boolean"),
        "str": lambda: column(TEXTS.map(lambda s: f"t{s}".strip()), "str"),
        "category": lambda: column(st.sampled_from(["a", "b", "c"]), "category"),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(makers)), min_size=1, max_size=6))
    columns = {f"{dtype} {index}": makers[dtype]() for index, dtype in enumerate(chosen)}
    return pandas.DataFrame(columns)


@given(frames())
@settings(max_examples=150, deadline=None)
def test_a_frame_survives_the_array(source):
    kinds = {}
    for name in source:
        distinct = source[name].nunique()
        if distinct > 1:
            kinds[name] = "real" if name.startswith(("float", "Int")) else "category"
    if not kinds:
        with pytest.raises(ValueError, match="can be modeled"):
            read(source)
        return
    table = read(source, kinds=kinds)
    array = in_order(table)
    back = decode_array(table.columns, array)
    expected = source.copy()
    for name in source.select_dtypes("category"):  # without the categories that do not occur
        expected[name] = source[name].cat.remove_unused_categories()
    for name in kinds:
        pandas.testing.assert_series_equal(back[name], expected[name])
    np.testing.assert_array_equal(table.from_frame(back), array)


@given(
    st.lists(
        st.tuples(st.integers(-(10**6), 10**6).map(lambda i: i / 10), TEXTS.map("t{}".format)),
        min_size=2, max_size=30, unique_by=(lambda row: row[0], lambda row: row[1].strip()),
    )
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_a_csv_file_of_pandas_is_read_as_pandas_reads_it(tmp_path_factory, rows):
    numbers = [number for number, _ in rows]
    # Otherwise float32 could not represent the differences, which is an error.
    assume(np.std(numbers) > 1100 * np.spacing(np.float32(np.abs(numbers).max())))
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    pandas.DataFrame(rows, columns=["a", "s"]).to_csv(path, index=False)
    table = read(path, kinds={"a": "real", "s": "category"}, missing=[])
    found = table.to_frame(in_order(table))
    assert found["a"].tolist() == pytest.approx(numbers, rel=1e-7)
    assert found["s"].tolist() == [s.strip() for _, s in rows]


# === Large tables ===


def large_frame(rows=1000):
    generator = np.random.default_rng(1)
    return pandas.DataFrame({
        "a": generator.normal(size=rows).round(3),
        "n": generator.negative_binomial(2, 0.1, size=rows),
        "s": generator.choice(["x", "y, z", "ü\nv"], size=rows),
        "m": np.where(generator.random(rows) < 0.3, NAN, generator.normal(size=rows).round(2)),
        "y": generator.choice(["no", "yes"], size=rows),
    })  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", "utf-16.csv"])
def test_a_large_table_is_read_in_blocks_in_every_epoch(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(tables, "_BLOCK_SIZE", 1000)
    monkeypatch.setattr(_table_sources, "_BLOCK_ROWS", 64)
    source = large_frame()
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        source.to_parquet(path)
    else:
        source.to_csv(path, index=False, encoding="utf-16" if "utf-16" in suffix else "utf-8")
    monkeypatch.setattr(tables, "_MEMORY_LIMIT", 1000)
    table = data.read_table(path, label="y", batch_size=32, test_fraction=0.2)
    whole = data.read_table(source, label="y")
    assert [column.kind for column in table.columns] == [column.kind for column in whole.columns]
    assert table.columns[2].categories == ("x", "y, z", "ü\nv")
    assert table.class_names == ("no", "yes")
    assert table.labels is None
    for _ in range(2):
        splits = []
        for split in (table.train, table.test):
            batches = list(split.as_numpy_iterator())
            assert len(split) == len(batches)
            assert {len(x) for x, _ in batches[:-1]} == {32}
            splits.append([np.concatenate(part) for part in zip(*batches, strict=True)])
        (train, train_labels), (test, test_labels) = splits
        assert 150 < len(test) < 250
        rows = np.column_stack(
            [np.concatenate([train, test]), np.concatenate([train_labels, test_labels])]
        )
        expected = np.column_stack(
            [
                np.concatenate([whole.train, whole.test]),
                np.concatenate([whole.labels, whole.test_labels]),
            ]
        )
        for one in (rows, expected):
            one[:] = one[np.lexsort(np.nan_to_num(one, nan=99).T)]
        np.testing.assert_array_equal(rows, expected)
        a, n, _, m = table.columns
        for index, column in ((0, a), (1, n), (3, m)):
            np.testing.assert_allclose(column.mean, np.nanmean(train[:, index]), rtol=1e-5)
            np.testing.assert_allclose(column.scale, np.nanstd(train[:, index]), rtol=1e-5)
    assert not np.array_equal(train[:100], whole.train[:100])


def test_blocks_agree_on_what_a_column_is(tmp_path, monkeypatch):
    """The first blocks of `code` have numbers, a later block has text; decimal commas come late."""
    monkeypatch.setattr(tables, "_BLOCK_SIZE", 1000)
    monkeypatch.setattr(_csv, "_SAMPLE", 500)
    lines = [f"{i % 7};{i % 5}\n" for i in range(1000)] + ["x;0,5\n"] * 100
    path = text("code;a\n" + "".join(lines))(tmp_path)
    table = read(path, in_memory=False, kinds={"code": "category"})
    assert table.columns[0].categories == ("0", "1", "2", "3", "4", "5", "6", "x")
    rows = np.concatenate(list(table.train.as_numpy_iterator()))
    assert np.bincount(rows[:, 0].astype(int)).tolist() == [143] * 6 + [142, 100]
    assert (rows[:, 1] == 0.5).sum() == 100
    bad = text("code;a\n" + "".join(lines) + "1\n2;3\n", name="bad.csv")(tmp_path)
    with pytest.raises(ValueError, match="1 fields in line 1102"):
        read(bad, in_memory=False)
    bad = text("code;a\n" + "".join(lines) + "1;inf\n2;3\n", name="bad.csv")(tmp_path)
    with pytest.raises(ValueError, match=r"'a' .*inf in line 1102"):
        read(bad, in_memory=False, kinds={"code": "category"})
    with pytest.raises(ValueError, match=r"'code' .*Received: 'x' in line 1002"):
        read(path, in_memory=False, kinds={"code": "real"})


def test_a_file_read_in_blocks_has_as_many_rows_as_it_says(tmp_path):
    path = text("a,b\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(100)))(tmp_path)
    table = data.read_table(path, in_memory=False, batch_size=1)
    for split in (table.train, table.test):
        assert len(split) == len(list(split)) > 0
    empty = text("a,b\n", name="empty.csv")(tmp_path)
    with pytest.raises(ValueError, match="no rows"):
        data.read_table(empty, in_memory=False)


def test_records_longer_than_a_block_are_read_whole(tmp_path, monkeypatch):
    source = pandas.DataFrame({"a": np.arange(30) / 7, "s": ["x" * 50, "y, z"] * 15})
    source.to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setattr(tables, "_BLOCK_SIZE", 16)
    table = read(tmp_path / "t.csv", in_memory=False)
    rows = np.concatenate(list(table.train.as_numpy_iterator()))
    np.testing.assert_allclose(np.sort(rows[:, 0]), source["a"], rtol=1e-6)
    assert table.columns[1].categories == ("x" * 50, "y, z")


def test_other_test_rows_are_read_in_batches_too(tmp_path, monkeypatch):
    train, test = (pandas.DataFrame({"a": FIVE * 4, "s": list("xyxyy") * 4}) for _ in range(2))
    test.loc[3, "s"] = "z"
    for name, frame in (("train", train), ("test", test[:6])):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    with pytest.warns(UserWarning, match="1 categories that no training row has: 'z'"):
        table = data.read_table(
            tmp_path / "train.csv", test=tmp_path / "test.csv", in_memory=False, batch_size=3
        )
    assert (len(table.train), len(table.test)) == (7, 2)
    rows = np.concatenate(list(table.test.as_numpy_iterator()))
    np.testing.assert_array_equal(rows[:, 0], np.float32((FIVE * 4)[:6]))
    np.testing.assert_array_equal(rows[:, 1], [0, 1, 0, NAN, 1, 0])


def test_load_refuses_a_table_that_is_larger_than_the_memory(tmp_path, monkeypatch):
    path = text("a,b\n1.5,2\n2.5,3\n")(tmp_path)
    monkeypatch.setattr(tables, "_MEMORY_LIMIT", path.stat().st_size - 1)
    with pytest.raises(ValueError, match=rf"about {path.stat().st_size} bytes\. Use .*read_table"):
        data.load(path)
    assert data.is_table(path)


def test_the_place_of_an_error_in_a_later_block(tmp_path, monkeypatch):
    monkeypatch.setattr(_table_sources, "_BLOCK_ROWS", 4)
    path = parquet_of(tmp_path, {"a": [*range(9), np.inf, 1.0], "b": np.arange(11) / 7})
    with pytest.raises(ValueError, match="inf in row 9"):
        read(path, in_memory=False)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
@pytest.mark.parametrize("more", [0, -1])
def test_files_up_to_the_limit_are_read_at_once(tmp_path, monkeypatch, more, suffix):
    """`read_table` says how it estimates the size of a compressed file in memory."""
    assert tables._MEMORY_LIMIT == 1024**3
    path = tmp_path / f"t{suffix}"
    source = pandas.DataFrame({"a": np.arange(100) % 7 / 8, "b": np.arange(100) % 5 / 8})
    source.to_parquet(path) if suffix == ".parquet" else source.to_csv(path, index=False)
    size = path.stat().st_size * (1 if suffix == ".csv" else 5)
    monkeypatch.setattr(tables, "_MEMORY_LIMIT", size + more)
    assert isinstance(data.read_table(path).train, np.ndarray) == (more == 0)
    assert data.is_table(path) == (more == -1)  # the numbers are in [0, 1], as those of pixels
    if more == 0:
        assert loaded(path)[0].shape == (90, 2)
    else:
        with pytest.raises(ValueError, match=f"at most {size - 1} bytes"):
            data.load(path)


def test_a_parquet_file_is_read_whole_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(_table_sources, "_BLOCK_ROWS", 4)
    path = parquet_of(tmp_path, {"a": np.arange(11) / 7})
    assert len(read(path).train) == 11


def test_the_place_of_a_text_in_a_later_block(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_BLOCK_SIZE", 500)
    path = text("a\n" + "1\n2\n" * 500 + "x\n")(tmp_path)
    with pytest.raises(ValueError, match="'x' in line 1002"):
        read(path, in_memory=False)


GREY = np.arange(20 * 30).reshape(30, 20) % 3 * 127.5 // 1  # 0, 127 and 255
CONSTANT = np.full((30, 14), 9.0)
PIXELS = {
    "0 to 255": (GREY, True),
    "0 to 256": (np.where(GREY == 255, 256, GREY), False),
    "-1 to 1": (GREY / 127.5 - 1, False),
    "0 to 2": (GREY // 127, False),
    "16 columns": (GREY[:, :16], True),
    "15 columns": (GREY[:, :15], False),
    "fractions": (GREY / 2, False),
    "up to 127": (np.minimum(GREY, 127), False),
    "up to 128": (np.minimum(GREY, 128), True),
    "half of the columns": (np.hstack([GREY[:, :10], GREY[:, 10:] // 10]), True),
    "less than half": (np.hstack([GREY[:, :9], GREY[:, 9:] // 10]), False),
    "without the constants": (np.hstack([GREY[:, :6], CONSTANT]), True),
}


@pytest.mark.parametrize(("values", "is_pixels"), PIXELS.values(), ids=PIXELS)
@pytest.mark.parametrize("label", ["label", "animal"])
def test_pixels_are_recognized_at_the_limits(values, is_pixels, label):
    """The docstring of `is_table` has these rules."""
    frame = pandas.DataFrame(values)
    assert data.is_table(frame) == (not is_pixels)
    frame[label] = ["cat", "dog", "dog"] * 10
    assert data.is_table(frame) == (not is_pixels or label == "animal")
    train, _ = data.load(frame, labels=True, label=label, batch_size=27)
    x, y = next(iter(train))
    if is_pixels:
        assert x.shape == (27, values.shape[1])
        assert np.max(x) <= 1
    assert set(np.asarray(y)) == {0, 1}


def test_labels_are_found_only_if_they_are_wanted_and_clear():
    frame = pandas.DataFrame({"a": FIVE * 4, "class": ["x", "y"] * 10})
    assert loaded(frame)[0].shape == (18, 2)
    with pytest.raises(ValueError, match="pass its name as `label`"):
        data.load(frame.assign(target=frame["class"]), labels=True)


def test_a_table_cannot_be_changed_and_equals_only_itself():
    table = read(pandas.DataFrame({"a": FIVE}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.source = "x"
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.columns[0].name = "x"
    assert len({table, table, read(pandas.DataFrame({"a": FIVE}))}) == 2


def test_the_warning_names_five_categories_and_the_line_of_the_user():
    train = pandas.DataFrame({"a": FIVE * 2, "n": [1, 2] * 5})
    test = pandas.DataFrame({"a": [1.5] * 8, "n": [9, 8, 7, 6, 5, 4, NAN, 1]})
    with pytest.warns(
        UserWarning, match=r"has 6 categories .* has: 4.0, 5.0, 6.0, 7.0, 8.0. They"
    ) as found:
        table = data.read_table(train, test=test)
    assert found[0].filename == __file__
    np.testing.assert_array_equal(table.test[:, 1], [*[NAN] * 7, 0])


def test_an_error_names_ten_categories_and_how_many_more_there_are():
    column = Column("c", "category", tuple("abcdefghijkl"))
    with pytest.raises(ValueError, match=r"'i', 'j' and 2 more in the column 'c'.*Received: 'z'"):
        encode_frame([column], pandas.DataFrame({"c": ["a", "z"]}))
    column = Column("c", "category", tuple("abcdefghij"))
    with pytest.raises(ValueError, match=r"'i', 'j' in the column 'c'.*Received: 'z'"):
        encode_frame([column], pandas.DataFrame({"c": ["a", "z"]}))


@pytest.mark.parametrize(
    ("value", "code"),
    [("true", 1), (" False", 0), ("1", 1), ("0", 0), ("1.0", 1), ("0.0", 0), (1, 1), (0.0, 0)],
)
def test_texts_and_numbers_that_mean_a_truth_value(value, code):
    column = Column("t", "binary", (False, True))
    assert encode_frame([column], pandas.DataFrame({"t": [value]})) == [[code]]


def test_the_smallest_positive_numbers_and_counts_of_new_rows():
    columns = [Column("p", "positive"), Column("n", "count")]
    rows = pandas.DataFrame({"p": [TINY[0], NAN, 1], "n": [0, 1, NAN]})
    np.testing.assert_array_equal(encode_frame(columns, rows), rows.to_numpy(np.float32))
    with pytest.raises(ValueError, match=r"greater than 0 .*'p' .*row 1"):
        encode_frame(columns, rows.assign(p=[1, TINY[0] / 2, 1]))
    with pytest.raises(ValueError, match=r"at least 0 .*'n' .*0.5 in row 2"):
        encode_frame(columns, rows.assign(n=[0, 1, 0.5]))


def test_columns_of_objects_have_the_dtype_of_their_numbers():
    frame = pandas.DataFrame({"i": [1, -2, 5], "f": [1, -2.5, 5], "m": [3, None, -7]}, dtype=object)
    dtypes = [column.dtype for column in read(frame).columns]
    assert dtypes[:2] == ["int64", "float64"]


def test_columns_are_printed_without_notes_if_there_are_none():
    columns = tables.ColumnTuple(
        [
            Column("number", "real", minimum=-1.5, maximum=2, missing=3),
            Column("c", "category", tuple("abcdefg")),
            Column("i", "identifier"),
            Column("unknown", "count"),
        ]
    )
    assert repr(columns).splitlines() == [
        "column   kind        values of the training rows  missing",
        "number   real        -1.5 … 2                     3",
        "c        category    a, b, c, d, e, … (2 more)",
        "i        identifier  not modeled",
        "unknown  count       ? … ?",
    ]


def test_typical_values_are_those_of_the_kind():
    found = {kind: Column("x", kind, mean=1.6).typical for kind in ("real", "positive", "count")}
    assert found == {"real": 1.6, "positive": pytest.approx(np.exp(1.6)), "count": 2.0}
    column = Column("x", "binary", ["a", "b"], mean=1.6)
    assert column.typical == 0
    assert column.categories == ("a", "b")


@pytest.mark.parametrize("shape", [(1,), (2, 1, 1), (2, 2)])
def test_an_array_of_another_shape_is_no_table(shape):
    with pytest.raises(ValueError, match=r"shape \(rows, 1\).*Received: shape"):
        decode_array([Column("a", "real")], np.zeros(shape))


def test_the_code_of_a_column_with_one_category_is_0():
    column = Column("c", "category", ("x",))
    assert decode_array([column], [[0.0]])["c"].tolist() == ["x"]
    with pytest.raises(
        ValueError, match=r"codes from 0 to 0 in the column 'c'.*Received: 1 in row 0"
    ):
        decode_array([column], [[1.0]])


@pytest.mark.parametrize("kind", ["category", "ordinal"])
def test_only_ordinal_columns_become_ordered(kind):
    column = Column("c", kind, ("x", "y"), dtype="category")
    assert decode_array([column], [[0.0], [1.0]])["c"].cat.ordered == (kind == "ordinal")


@pytest.mark.parametrize(
    ("dtype", "number", "expected"),
    [
        ("int8", -128.0, "int8"),
        ("int8", -129.0, "int64"),
        ("int8", 127.0, "int8"),
        ("int8", 128.0, "int64"),
        ("int64", -(2.0**63), "int64"),
        ("int64", 2.0**63 - 1024, "int64"),
        ("int64", 2.0**63, "float64"),
        ("Int64", 2.0**63, "float64"),
        ("uint64", 2.0**63, "uint64"),
        ("uint64", 2.0**64, "float64"),
    ],
)
def test_numbers_outside_of_an_integer_dtype_get_a_larger_one(dtype, number, expected):
    found = decode_array([Column("n", "real", dtype=dtype)], [[number]])["n"]
    assert (str(found.dtype), float(found[0])) == (expected, number)


def test_numbers_that_are_equal_in_the_training_rows_are_a_constant():
    """`kinds` cannot make numbers of them, because their standard deviation is 0."""
    frame = pandas.DataFrame({"a": [2.5] * 20, "b": np.arange(20) / 7})
    assert data.read_table(frame).columns[0].kind == "constant"
    with pytest.raises(ValueError, match=r"Expected different numbers .* 'a' .*only 2[.]5"):
        data.read_table(frame, kinds={"a": "real"})


def test_other_sources_are_no_tables(tmp_path):
    assert data.is_table(pandas.DataFrame({"a": [1.5, 2.5]}))
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 2)))
    for source in ("mnist_mini", "fashion_mnist", tmp_path, tmp_path / "x.npz"):
        assert not data.is_table(source)


@pytest.mark.parametrize("value", [-9, -99, -999, -9999, -1, 999])
def test_numbers_that_often_stand_for_missing_are_noted(value):
    numbers = np.random.default_rng(0).normal(5, 1, 200).round(2)
    numbers[::20] = value
    column = read(pandas.DataFrame({"a": numbers})).columns[0]
    noted = f"{value} is a number; if it stands for a missing value, pass missing=['{value}']"
    assert (noted in column.note) == (value in (-9, -99, -999, -9999))


def test_a_number_as_far_from_0_as_the_mean_does_not_stand_for_missing():
    assert not read(pandas.DataFrame({"a": [-9.0, 20.5, 15.5]})).columns[0].note
    assert read(pandas.DataFrame({"a": [-9.0, 20.5, 15.0]})).columns[0].note


# === data.load ===


def loaded(source, **arguments):
    train, test = data.load(source, **arguments)
    return [np.concatenate(list(split.as_numpy_iterator())) for split in (train, test)]


def test_load_reads_tables(tmp_path):
    table = data.read_table("penguins")
    train, test = loaded("penguins")
    np.testing.assert_array_equal(test, table.test)
    for rows, expected in ((train, table.train), (test, table.test)):
        rows, expected = (one[np.lexsort(np.nan_to_num(one).T)] for one in (rows, expected))
        np.testing.assert_array_equal(rows, expected)
    assert data.is_table("penguins")
    assert data.number_of_classes("penguins") is None
    train, _ = data.load("penguins", label="species", labels=True, batch_size=400)
    x, y = next(iter(train))
    assert x.shape == (310, 7)
    assert set(np.asarray(y)) == {0, 1, 2}
    answers = text("q1,q2\n" + "".join(f"{q},{(q + 1) % 5}\n" for q in SURVEY))(tmp_path)
    assert set(np.concatenate(loaded(answers))[:, 0]) == {0, 1, 2, 3, 4}
    assert data.is_table(answers)
    with pytest.raises(ValueError, match="binarize=True, which is only for grey values"):
        data.load(answers, binarize=True)
    frame = large_frame(50)
    assert loaded(frame)[0].shape == (45, 5)


@pytest.mark.parametrize("name", ["label", "class", "Target"])
def test_load_finds_the_labels(tmp_path, name):
    source = pandas.DataFrame({"a": FIVE * 4, name: ["dog", "cat"] * 10})
    source.to_csv(tmp_path / "t.csv", index=False)
    train, _ = data.load(tmp_path / "t.csv", labels=True, batch_size=20)
    x, y = next(iter(train))
    assert x.shape == (18, 1)
    np.testing.assert_array_equal(np.bincount(y), np.bincount(y, minlength=2))
    source.rename(columns={name: "animal"}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match="pass its name as `label`"):
        data.load(tmp_path / "t.csv", labels=True)


def test_load_returns_numbers_in_the_unit_interval_and_grey_values_as_version_0_1_0(tmp_path):
    unit = np.zeros((30, 4))
    unit[:, 1] = RANDOM.random(30)
    grey = RANDOM.integers(0, 256, size=(30, 20))
    grey[:, 3] = 0
    bits = RANDOM.integers(0, 2, size=(30, 20))
    few = RANDOM.integers(0, 256, size=(30, 4))
    for values, expected in ((unit, unit), (grey, grey / 255), (bits, bits)):
        np.savetxt(tmp_path / "t.csv", values, delimiter=",")
        assert not data.is_table(tmp_path / "t.csv")
        order = np.random.default_rng(0).permutation(30)
        found = loaded(tmp_path / "t.csv")[1]
        np.testing.assert_allclose(found, expected[order[:3]], rtol=1e-6)
    np.savetxt(tmp_path / "t.csv", few, delimiter=",", fmt="%d")
    assert data.is_table(tmp_path / "t.csv")
    assert loaded(tmp_path / "t.csv")[0].max() > 200


def test_the_source_of_penguins_is_stated():
    frame = pandas.read_csv(data.PENGUINS)
    assert frame.shape == (344, 8)
    assert frame.isna().sum().tolist() == [0, 0, 2, 2, 2, 2, 11, 0]
    note = (data.PENGUINS.parent / "README.md").read_text()
    for words in ("CC0", "Horst", "Hill", "Gorman", "Williams", "Fraser", "2014"):
        assert words in note
    table = read("penguins")
    found = table.to_frame(in_order(table))
    pandas.testing.assert_frame_equal(found, frame, check_dtype=False)


def test_columns_keep_their_note_in_a_configuration():
    table = data.read_table("penguins")
    for column in table.columns:
        assert Column.from_config(column.get_config()) == column


NUMBERS = ["1", "-2", "0.5", "1e3", "+4", ".5", "5.", "99999999999999999999", "inf", "nan"]
UNCLEAR = ["07", "0x1", "1,5", "1.234", "-1,234", "1.234.567", "1_0", "5 kg", "2020-01-02"]
FIELDS = st.sampled_from(["", "x", "y z", " x", "?", "NA", "true", "é", *NUMBERS, *UNCLEAR])


@st.composite
def text_tables(draw):
    """Return rows of fields, of the same number of fields each."""
    width = draw(st.integers(1, 3))
    row = st.lists(FIELDS, min_size=width, max_size=width)
    return draw(st.lists(row, min_size=1, max_size=12))


@given(text_tables())
@settings(max_examples=200, deadline=None)
def test_pyarrow_and_pandas_read_the_same(tmp_path_factory, rows):
    """Without pyarrow, pandas reads the files."""
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    names = [f"name{index}" for index in range(len(rows[0]))]
    path.write_text("\n".join(";".join(row) for row in [names, *rows]) + "\n")
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(2):
            try:
                table = read(path)
                found.append((table.columns, in_order(table).tobytes()))
            except ValueError as error:
                found.append(re.sub("Received: .*", "", str(error)))
            patch.setattr(_csv.CsvFile, "_parse_with_arrow", lambda *_: None)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("kind", "numbers"), [("binary", {2}), ("category", {1, 2, 3}), ("ordinal", {2, 3})]
)
def test_the_number_of_categories_of_each_kind(kind, numbers):
    for number in range(4):
        if number in numbers:
            Column("x", kind, tuple("abcd"[:number]))
        else:
            with pytest.raises(ValueError, match=f"Received: {number} values"):
                Column("x", kind, tuple("abcd"[:number]))


def repeated(values, times):
    return np.repeat(values, times)


RNG = np.random.default_rng(0)
TINY = float(np.finfo(np.float32).tiny) * np.arange(8, 16) / 8
TEN = np.arange(10) * 3 - 5  # some are negative, and no number follows the one before
YEARS = 1950 + 2 * RNG.permutation(40)
LIMITS = {
    "10 numbers, each 5 times": (repeated(TEN, 5), "category"),
    "10 numbers, each 5 times but one": (repeated(TEN, 5)[:-1], "real"),
    "11 numbers, each 5 times": (repeated(np.append(TEN, 50), 5), "real"),
    "32 years, each 100 times": (repeated(YEARS[:32], 100), "category"),
    "32 years, each 100 times but one": (repeated(YEARS[:32], 100)[:-1], "positive"),
    "33 years, each 100 times": (repeated(YEARS[:33], 100), "positive"),
    "0 and a small variance": ([0, 1, 2, 2, 2, 2, 3, 1, 2, 3], "count"),
    "99 and larger numbers": ([99, 500, *range(501, 540, 3)], "count"),
    "100 and larger numbers": ([100, 500, *range(501, 540, 3)], "positive"),
    "variance equal to the mean": ([8, 16, 16, 16, 16, 16, 16, 24], "count"),
    "variance below the mean": ([4, 6, 8], "positive"),
    "1,000 texts, each twice": ([f"t{i % 1000}" for i in range(2000)], "category"),
    "1,001 texts, each twice": ([f"t{i % 1001}" for i in range(2002)], "identifier"),
    "11 texts in 22 rows": ([f"t{i % 11}" for i in range(22)], "category"),
    "11 texts in 21 rows": ([f"t{i % 11}" for i in range(21)], "identifier"),
    "10 texts in 10 rows": ([f"t{i}" for i in range(10)], "category"),
    "10 row numbers from 0": (range(10), "identifier"),
    "10 row numbers from 1": (range(1, 11), "identifier"),
    "9 row numbers": (range(9), "count"),
    "numbers from 2": (range(2, 14), "count"),
    "numbers with a gap": ([*range(9), 10], "count"),
    "numbers in another order": ([0, 2, 1, *range(3, 10)], "count"),
    "half of the texts are dates": ([*["2020-01-02", "2020-01-03"] * 3, *"abab"], "category"),
    "row numbers with a missing entry": ([*range(6), NAN, *range(6, 12)], "count"),
    "1,500 whole numbers": (range(5000, 500, -3), "positive"),
    "the smallest normal number of float32": (TINY, "positive"),
    "smaller numbers than float32 has": (TINY * 0.75, "real"),
    "a third of the texts are numbers": (["1", "x", "y"] * 5, "category"),
    "half of the texts have decimal commas": (["1,5", "2,5", "x", "y"] * 5, "category"),
    "half of the texts have a unit": (["1 kg", "2 kg", "3 kg", *"xyz"] * 5, "category"),
    "two texts with a unit": (["1 kg", "2 kg", "x"] * 5, "category"),
    "four units": (["1 kg", "2 g", "3 m", "4 s"] * 5, "category"),
    "one ordered category": (pandas.Categorical(["x"] * 5, ordered=True), "constant"),
    "two ordered categories": (pandas.Categorical(list("xyxyy"), ordered=True), "ordinal"),
}


@pytest.mark.parametrize(("values", "kind"), LIMITS.values(), ids=LIMITS)
def test_the_rules_for_kinds_hold_at_their_limits(values, kind):
    """The docstring of `read_table` has these rules. The other column only makes a table of it."""
    values = values if isinstance(values, pandas.Categorical) else list(values)
    other = RNG.normal(size=len(values))
    table = read(pandas.DataFrame({"a": values, "other": other}))
    assert table.columns[0].kind == kind


@pytest.mark.parametrize(
    ("distance", "kind"), [(-0.7, "positive"), (-0.8, "real"), (0.8, "positive")]
)
def test_numbers_with_skewed_logarithms_are_real_unless_they_are_more_skewed(distance, kind):
    logarithms = np.append(np.linspace(-0.3, 0.3, 51), [distance] * 2)
    numbers = np.exp(logarithms)
    skewness = abs(scipy.stats.skew(logarithms))
    assert (kind == "real") == (1 < skewness < 2 and skewness > abs(scipy.stats.skew(numbers)))
    assert read(pandas.DataFrame({"a": numbers})).columns[0].kind == kind


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["1", "x", "2", "y"], "Expected numbers in .* Received: 'x' in row 1"),
        (["x", "1,5", "2,5", "3,5"], "same decimal sign in .* Received: '1,5' in row 1"),
        (["x", "1 kg", "y", "2 g", "3 m"], "without a unit in .* Received: '1 kg' in row 1"),
    ],
)
def test_the_first_entry_that_is_a_number_or_is_none_is_named(texts, message):
    frame = pandas.DataFrame({"a": texts, "other": RNG.normal(size=len(texts))})
    with pytest.raises(ValueError, match=message):
        read(frame)


def test_two_different_numbers_in_a_column_called_id_are_an_identifier():
    assert read(pandas.DataFrame({"id": [5, 7], "a": [1.5, 2.5]})).columns[0].kind == "identifier"


def test_categories_that_are_numbers_are_sorted_as_numbers():
    table = read(pandas.DataFrame({"a": [10, 2, 2, 10, 3] * 5, "b": [9, 10] * 12 + [9]}))
    assert [column.categories for column in table.columns] == [(2, 3, 10), (9, 10)]
    mixed = pandas.Categorical([3, "x", 20, 3, "x"], categories=[3, "x", 20])
    table = read(pandas.DataFrame({"a": FIVE, "c": mixed, "y": mixed}), label="y")
    assert table.columns[1].categories == (20, 3, "x")
    assert table.class_names == ("20", "3", "x")


def test_more_than_1000_categories_are_possible_if_they_are_chosen():
    frame = pandas.DataFrame({"s": [f"t{i:04d}" for i in range(1001)], "n": np.arange(1001) * 7})
    table = read(frame, kinds={"s": "category", "n": "category"})
    assert table.columns[0].categories == tuple(frame["s"])
    assert table.columns[1].categories == tuple(frame["n"])
    for index in range(2):
        np.testing.assert_array_equal(in_order(table)[:, index], np.arange(1001))
    table = read(frame.assign(n=frame["n"] - 3), kinds={"s": "category"}, label="n")
    assert table.class_names == tuple(str(7 * index - 3) for index in range(1001))


def test_chosen_kinds_hold_for_unusual_columns():
    ordered = pandas.Categorical(["S", "M", "S", "M", "S"], ["S", "M", "L"], ordered=True)
    frame = pandas.DataFrame(
        {"a": FIVE, "one": ["x"] * 5, "two": [7, 5, 5, 7, 5], "size": ordered,
         "order": [2, 1, 3, 1, 2], "same": [1e39] * 5, "out": FIVE}
    )  # fmt: skip
    kinds = {
        "one": "category", "two": "ordinal", "size": "category", "order": [3, 1, 2],
        "same": "constant", "out": "identifier",
    }  # fmt: skip
    columns = {column.name: column for column in read(frame, kinds=kinds).columns}
    assert {name: columns[name].kind for name in kinds} == {**kinds, "order": "ordinal"}
    assert columns["one"].categories == ("x",)
    assert columns["two"].categories == (5, 7)
    assert columns["size"].categories == ("M", "S")  # sorted, and only those that occur
    assert columns["order"].categories == (3, 1, 2)
    assert columns["out"].note == "excluded, as `kinds` says"


def test_dates_cannot_be_categories():
    dates = pandas.Series(pandas.date_range("2020-01-01", periods=5)).where(WHOLE[:5] > 1)
    frame = pandas.DataFrame({"a": FIVE, "d": dates})
    assert read(frame).columns[1].missing == 2
    for kind, needed in (
        ("category", "at least 1 value"),
        ("ordinal", "at least 2 different values"),
        ("binary", "2 different values"),
    ):
        with pytest.raises(ValueError, match=f"Expected {needed} in .*'d'.*0 values"):
            read(frame, kinds={"d": kind})


def test_at_most_ten_values_of_a_column_are_shown():
    frame = pandas.DataFrame({"a": list("abcdefghijk")})
    with pytest.raises(ValueError, match=r"Received: 11 values \('a', .*, 'j'\)\. Choose"):
        read(frame, kinds={"a": "binary"})


@pytest.mark.parametrize("test_value", [1.5, "x"])
def test_a_value_that_one_test_row_has_alone_is_a_constant(test_value):
    values = np.full(40, None, object)
    values[np.random.default_rng(0).permutation(40)[0]] = test_value
    column = data.read_table(pandas.DataFrame({"a": values, "b": np.arange(40) / 7})).columns[0]
    assert (column.kind, column.categories, column.missing) == ("constant", (test_value,), 39)


def test_one_number_in_the_training_rows_is_a_constant():
    values = np.full(40, NAN)
    order = np.random.default_rng(0).permutation(40)
    values[order[0]] = 2.5  # a test row
    values[order[-1]] = 1.5
    column = data.read_table(pandas.DataFrame({"a": values, "b": np.arange(40) / 7})).columns[0]
    assert (column.kind, column.categories) == ("constant", (1.5,))


def test_categories_whose_order_is_known_can_occur_in_test_rows_only():
    """Then they are no missing entries. Without a known order, a warning names them."""
    order = np.random.default_rng(0).permutation(40)
    sizes = np.array(["S", "M"] * 20, object)
    sizes[order[0]] = "L"  # a test row
    numbers = np.array([1, 2] * 20)
    numbers[order[0]] = 3
    ordered = pandas.Categorical(sizes, ["S", "M", "L"], ordered=True)
    frame = pandas.DataFrame({"p": ordered, "k": sizes, "n": numbers, "b": np.arange(40) / 7})
    table = data.read_table(frame, kinds={"k": ["S", "M", "L"], "n": [1, 2, 3]})
    np.testing.assert_array_equal(table.test[0, :3], [2, 2, 2])
    with pytest.warns(UserWarning, match="'n' .*1 categories that no training row has: 3"):
        data.read_table(frame, kinds={"k": ["S", "M", "L"], "n": "ordinal"})


@pytest.mark.parametrize(("spread", "fits"), [(2000, True), (1998, False)])
def test_a_thousandth_of_the_deviation_must_be_a_number_of_float32(spread, fits):
    """From 2²³ on, float32 has only whole numbers."""
    frame = pandas.DataFrame({"a": [2.0**23, 2.0**23 + spread], "b": [1.5, 2.5]})
    if fits:
        assert read(frame, kinds={"a": "real"}).columns[0].scale == 1000
    else:
        with pytest.raises(ValueError, match="float32 rounds them to multiples of 1"):
            read(frame, kinds={"a": "real"})


def test_more_categories_than_float32_distinguishes_are_refused(monkeypatch):
    limit = _kinds._MAX_CODES
    assert np.float32(limit) - 1 < limit == np.float32(limit + 1)
    monkeypatch.setattr(_kinds, "_MAX_CODES", 3)
    kinds = {"a": "category"}
    assert read(pandas.DataFrame({"a": list("xyz")}), kinds=kinds).columns[0].kind == "category"
    with pytest.raises(ValueError, match=r"at most 3 categories .*'a'.*Received: 4"):
        read(pandas.DataFrame({"a": list("wxyz")}), kinds=kinds)


def test_columns_of_a_text_file_get_the_dtypes_of_their_numbers(tmp_path):
    path = text("f,w,m,e,s\n1.5,7,7,,x\n2.5,-1,,,y\n-3,2,5,,x\n")(tmp_path)
    columns = read(path).columns
    assert [column.dtype for column in columns] == ["float64", "int64", "Int64", "float64", "str"]


def test_row_numbers_are_recognized_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_BLOCK_SIZE", 500)
    monkeypatch.setattr(_csv, "_SAMPLE", 200)
    lines = [
        f"{i},{i + (i > 150)},{str(i % 2 == 0).lower() if i < 150 else 'x'}\n" for i in range(200)
    ]
    path = text("row,jump,mixed\n" + "".join(lines))(tmp_path)
    columns = read(path, in_memory=False).columns
    assert [column.kind for column in columns] == ["identifier", "count", "category"]
    assert columns[2].categories == ("false", "true", "x")


@pytest.mark.parametrize(("largest", "number"), [(999, 1000), (1000, 3)])
def test_whole_numbers_below_1000_are_labels_as_they_are(largest, number):
    table = read(pandas.DataFrame({"a": FIVE, "y": [0, 5, largest, 5, 0]}), label="y")
    assert len(table.class_names) == number
    expected = [0, 5, largest, 5, 0] if number == 1000 else [0, 1, 2, 1, 0]
    np.testing.assert_array_equal(in_order(table, table.labels), expected)


@pytest.mark.parametrize(("smallest", "decimals"), [(1.0, 0), (0.1, 1), (1e-6, 6), (1e-7, None)])
def test_decimal_places_are_counted_up_to_six(smallest, decimals):
    column = read(pandas.DataFrame({"a": [-2.0, 3.0, smallest]})).columns[0]
    assert column.decimals == decimals


@pytest.mark.parametrize(
    ("numbers", "decimals"),
    [
        ([0.07, 0.29, 0.0, -3.0], 2),
        ([0.5] * 1000 + [-0.25], 2),
        ([50_000_000.123457, -20_000_000.5], 6),
        ([70_000_000.123457, -20_000_000.5], None),
        (np.float32([0.1, 0.25, -3.7]), 2),
        (np.float64(np.float32([0.1, 0.25, -3.7])), None),
        (np.float32([9999.5, -9000]), 1),
        (np.float32([15000.5, -9000]), None),
    ],
)
def test_decimal_places_are_counted_as_far_as_the_dtype_shows_them(numbers, decimals):
    assert read(pandas.DataFrame({"a": numbers})).columns[0].decimals == decimals


def test_a_table_says_how_many_rows_it_has_or_that_they_come_in_batches():
    table = data.read_table("penguins")
    counts = f"{len(table.train)} training rows and {len(table.test)} test rows"
    assert counts in repr(table)
    batches = tf.data.Dataset.from_tensor_slices(table.test).batch(10)
    assert "in batches" in repr(dataclasses.replace(table, test=batches))
