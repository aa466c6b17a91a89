# bash completion for danepost
_danepost() {
	local cur=${COMP_WORDS[COMP_CWORD]} words
	case ${COMP_WORDS[1]} in
	queue) words="list show cat retry hold release remove run --json --all --sender --recipient --domain" ;;
	anchor) words="status refresh --json" ;;
	config) words="check" ;;
	lookup) words="A AAAA MX TLSA TXT NS DS DNSKEY --json" ;;
	check) words="--json" ;;
	doctor) words="--json --to" ;;
	help) words="serve sendmail queue lookup check anchor doctor config version" ;;
	*) words="serve sendmail queue lookup check anchor doctor config version help --config --state-dir --version" ;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _danepost danepost
