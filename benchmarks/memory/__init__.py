"""Does the memory of earlier tasks make the next model better or cheaper?"""
