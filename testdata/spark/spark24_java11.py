"""Let Spark 2.4 run on Java 11 or later: copy its ASM library, without the check of the class file version.

    python spark24_java11.py SITE-PACKAGES/pyspark/jars/xbean-asm6-shaded-4.8.jar PATCHED.jar
    PYSPARK_SUBMIT_ARGS="--driver-class-path PATCHED.jar pyspark-shell" python train_save.py ...

Spark 2.4 is made for Java 8. On a later Java its closure cleaner, which reads class files, fails with
"Unsupported class file major version 55". ASM 6 reads them well enough: it ignores the attributes it does not
know. Only which closures may be sent depends on it, no arithmetic does.
"""

import argparse
import zipfile
from pathlib import Path

READER = "org/apache/xbean/asm6/ClassReader.class"
# In the constructor: aload_0, iload_2, bipush 6, iadd, invokevirtual readShort, bipush 54, if_icmple.
BEFORE_CALL, LIMIT_AT, LIMIT, NO_LIMIT = bytes([0x2A, 0x1C, 0x10, 6, 0x60, 0xB6]), 9, 54, 127


def patch(code):
    """The class with its largest class file version raised."""
    at = code.index(BEFORE_CALL) + LIMIT_AT
    assert code[at - 1] == 0x10 and code[at] == LIMIT and code[at + 1] == 0xA4, "not the reader of ASM 6"
    return code[:at] + bytes([NO_LIMIT]) + code[at + 1 :]


def main():
    """Copy the archive, one class of it patched."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="the library that Spark ships")
    parser.add_argument("patched", type=Path, help="where to write the copy")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.source) as source, zipfile.ZipFile(arguments.patched, "w") as patched:
        for name in source.namelist():
            content = source.read(name)
            patched.writestr(name, patch(content) if name == READER else content, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
