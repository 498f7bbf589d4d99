# A header as doxygen is to read it. Its first comment describes the file, and its first class without a comment of its own;
# "Collective." begins a sentence's line and is none; <word> stands for a word.
/^\/\/ / && NR == lines + 2 {
  head[++lines] = substr($0, 4)
  print (lines == 1 ? "/// \\file\n/// " : "/// ") head[lines]
  next
}
/^(class|struct) [A-Za-z]+.*\{$/ && before == "" && lines > 0 {
  for (i = 1; i <= lines; ++i) print "/// " head[i]
  lines = 0
}
/^ *\/\/\/ (Not c|C)ollective/ { sub(/\. /, ".\\ ") }
/^ *\/\/\// {
  while (match($0, /<[a-z_]+>/))
    $0 = substr($0, 1, RSTART - 1) "&lt;" substr($0, RSTART + 1, RLENGTH - 2) "&gt;" substr($0, RSTART + RLENGTH)
}
{
  print
  before = $0
}
