"""What an AMD binary (a code object, `.hsaco`) says of its kernels: the note that LLVM's usage guide describes."""

from __future__ import annotations

import io

from helpers.errors import UserError
from helpers.inspection.amdgcn import AmdResources, resources_of_metadata

MAX_NOTE_BYTES = 16_000_000


def hsaco_resources(content: bytes) -> dict[str, AmdResources]:
    """Each kernel of an AMD code object by its name; {} for an ELF file that has no such note.

    Raises UserError for what is no ELF file, or whose note is no MessagePack of the documented form.
    """
    import msgpack
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import NoteSection

    try:
        for section in ELFFile(io.BytesIO(content)).iter_sections():
            for note in section.iter_notes() if isinstance(section, NoteSection) else ():
                described = note["n_descdata"]
                if note["n_name"] == "AMDGPU" and len(described) <= MAX_NOTE_BYTES:
                    kernels = msgpack.unpackb(described)["amdhsa.kernels"]
                    return {str(kernel[".name"]): resources_of_metadata(kernel) for kernel in kernels}
    except (ELFError, ConstructError, msgpack.UnpackException, KeyError, TypeError, ValueError, UnicodeError) as exc:
        raise UserError(f"not a code object of AMD's that this reads: {type(exc).__name__}: {str(exc)[:200]}") from exc
    return {}
